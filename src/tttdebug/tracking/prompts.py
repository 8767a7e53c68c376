# SPDX-License-Identifier: Apache-2.0
"""Prompts: text or token ids, checked against the model before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, TypeAlias

from tttdebug.errors import PromptError
from tttdebug.tracking.images import Image

if TYPE_CHECKING:
    import torch

    from tttdebug.references import Reference

Input: TypeAlias = "str | Sequence[int] | torch.Tensor | Image"
"""What a model reads: text, token ids, or for a model of images pixels [C, H, W]."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as the models read it."""

    text: str
    token_ids: tuple[int, ...]

    @property
    def inputs(self) -> torch.Tensor:
        """The token ids [S]."""
        import torch

        return torch.tensor(self.token_ids)


def default_prompt() -> str:
    """The opening of A Tale of Two Cities (Dickens, 1859; public domain), the field's usual text."""
    return (files("tttdebug") / "prompts" / "default.txt").read_text(encoding="utf-8").strip()


def read_prompt(reference: Reference, prompt: Input, decode_steps: int = 0) -> Prompt:
    """Tokenise `prompt`, or take it as token ids.

    Raises PromptError when it is empty, an image, or leaves no room for the decode steps.
    """
    if isinstance(prompt, Image):
        raise PromptError(f"{reference.name} reads text, not images: give a prompt")
    if isinstance(prompt, str):
        if not prompt.strip():
            raise PromptError("the prompt is empty; give text, or @FILE with text in it")
        if reference.tokenizer is None:
            raise PromptError(f"{reference.name} has no tokenizer; give the prompt as token ids (--token-ids)")
        text, token_ids = prompt, tuple(reference.tokenizer.encode(prompt, verbose=False))
    else:
        token_ids = tuple(int(token) for token in prompt)
        text = (
            reference.tokenizer.decode(token_ids) if reference.tokenizer is not None else " ".join(map(str, token_ids))
        )
    if not token_ids:
        raise PromptError("the prompt has no tokens; give some")
    if len(token_ids) + decode_steps > reference.context_length:
        raise PromptError(
            f"the prompt has {len(token_ids)} tokens and {decode_steps} decode steps follow, the context of "
            f"{reference.name} is "
            f"{reference.context_length}; shorten the prompt or the decode"
        )
    vocabulary = reference.model.config.vocab_size
    if not all(0 <= token < vocabulary for token in token_ids):
        raise PromptError(
            f"the prompt has token ids outside the vocabulary of {vocabulary}; was it tokenised for another model?"
        )
    return Prompt(text, token_ids)
