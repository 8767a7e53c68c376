# SPDX-License-Identifier: Apache-2.0
"""Token references: the `.refpt` files of TT-Transformers and tt-xla, and how well a port's tokens agree with one.

Such a file is a dictionary that torch saved: `reference_tokens` [1, N], a text's tokens, and `top5_tokens` [N, 5], the
five tokens that a trusted model finds likeliest after each of them, the likeliest first.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import TokenReferenceError

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking import Run

TOKENS, TOP5 = "reference_tokens", "top5_tokens"


@dataclass(frozen=True)
class TokenReference:
    """A text's tokens, and after each the tokens that the reference finds likeliest, the likeliest first.

    `about` is what else the file said, such as the versions of the libraries that made it.
    """

    name: str
    token_ids: tuple[int, ...]
    top5: tuple[tuple[int, ...], ...]
    about: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.token_ids)

    def prompt(self, tokens: int | None = None) -> list[int]:
        """The first `tokens` token ids, to be given to `track` as a prompt; all of them by default."""
        return list(self.token_ids[:tokens])

    def accuracy(self, predicted: Mapping[int, int]) -> TokenAccuracy:
        """How often `predicted`, the token that a port chooses after each position, is the reference's.

        Raises TokenReferenceError when a position lies beyond the text, or there is none.
        """
        if not predicted:
            raise TokenReferenceError(f"{self.name}: no predicted token was given; nothing can be said of it")
        beyond = [position for position in predicted if not 0 <= position < len(self.top5)]
        if beyond:
            raise TokenReferenceError(
                f"{self.name} has {len(self.top5)} positions, a token was predicted after position {beyond[0]}: it is "
                "of another text"
            )
        first = [token == self.top5[position][0] for position, token in predicted.items()]
        among = [token in self.top5[position] for position, token in predicted.items()]
        return TokenAccuracy(len(first), sum(first) / len(first), sum(among) / len(among))


@dataclass(frozen=True)
class TokenAccuracy:
    """The share of positions whose token is the reference's first choice (`top1`), or one of its five (`top5`)."""

    tokens: int
    top1: float
    top5: float

    def __str__(self) -> str:
        return f"top-1 {self.top1:.1%}, top-5 {self.top5:.1%} of {self.tokens} tokens"


def read_refpt(path: str | Path) -> TokenReference:
    """The token reference in a `.refpt` file. Nothing in it is executed.

    Raises TokenReferenceError for a file that is missing, damaged, or none.
    """
    import torch

    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TokenReferenceError(f"{path} does not exist; give a .refpt file") from None
    except pickle.UnpicklingError as error:
        raise TokenReferenceError(
            f"{path} is damaged, or holds more than tensors, which is not executed ({_first_line(error)})"
        ) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TokenReferenceError(
            f"{path} cannot be read as a file of torch.save ({_first_line(error)}); is it whole?"
        ) from None
    if not isinstance(content, dict) or TOKENS not in content or TOP5 not in content:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise TokenReferenceError(
            f"{path} is no token reference: it holds {found or 'nothing'}, not {TOKENS} and {TOP5}"
        )
    tokens = _whole_numbers(path, TOKENS, content[TOKENS]).flatten()
    top5 = _whole_numbers(path, TOP5, content[TOP5])
    if top5.ndim != 2 or not top5.shape[1] >= 1 or not 0 <= len(tokens) - len(top5) <= 1 or not len(tokens):
        raise TokenReferenceError(
            f"{path} does not fit together: {TOKENS} is {list(content[TOKENS].shape)}, {TOP5} {list(top5.shape)}; a "
            "row of five is needed for each token"
        )
    about = {str(key): str(value) for key, value in content.items() if key not in (TOKENS, TOP5, "top1_tokens")}
    return TokenReference(path.name, tuple(tokens.tolist()), tuple(map(tuple, top5.tolist())), about)


def write_refpt(reference: TokenReference, path: str | Path) -> None:
    """Save a token reference as TT-Transformers reads it."""
    import torch

    torch.save({TOKENS: torch.tensor([reference.token_ids]), TOP5: torch.tensor(reference.top5)}, path)


def token_reference(run: Run) -> TokenReference:
    """The text that a run read, prompt and decoded tokens, and what its reference finds likeliest after each of them.

    Raises TokenReferenceError when the run kept no tokens, read several texts, or lacks one of its positions.
    """
    users = {int(line["user"]) for line in run.tokens}
    if len(users) != 1:
        what = f"read {len(users)} texts, and a .refpt holds one" if users else "predicts no tokens"
        raise TokenReferenceError(f"{run.path} {what}; run a language model with one prompt")
    lines = sorted(run.tokens, key=lambda line: int(line["position"]))
    if [int(line["position"]) for line in lines] != list(range(len(lines))):
        raise TokenReferenceError(f"{run.path} does not hold every position of its text; run it again")
    return TokenReference(
        run.path.name,
        tuple(int(line["token"]) for line in lines),
        tuple(tuple(int(top[0]) for top in line["reference_top"]) for line in lines),
    )


def token_accuracy(run: Run, reference: TokenReference, user: int = 0) -> TokenAccuracy:
    """How often the port of a run chose the reference's token, over every position that the run compared.

    Raises TokenReferenceError when the run read another text: its tokens must be the reference's first ones.
    """
    predicted = {}
    for line in run.tokens:
        if line["user"] != user:
            continue
        position, token = int(line["position"]), int(line["token"])
        if position >= len(reference.top5):
            break
        if reference.token_ids[position] != token:
            if line["phase"] == "decode":  # from here on the run follows the reference model's own choice, not the text
                break
            raise TokenReferenceError(
                f"the run read token {token} at position {position}, {reference.name} has "
                f"{reference.token_ids[position]}: run it on that text (--tokens-from)"
            )
        predicted[position] = int(line["port_top"][0][0])
    return reference.accuracy(predicted)


def _whole_numbers(path: Path, name: str, value: Any) -> torch.Tensor:
    import torch

    if not isinstance(value, torch.Tensor) or value.is_floating_point() or value.is_complex():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise TokenReferenceError(f"{path}: {name} is {kind}, token ids are whole numbers")
    if bool((value < 0).any()):
        raise TokenReferenceError(f"{path}: {name} holds negative token ids")
    return value.long()


def _first_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
