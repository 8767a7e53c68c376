# SPDX-License-Identifier: Apache-2.0
"""Whether the reference itself can be trusted, before anything is compared with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.errors import ReferenceCheckError
from tttdebug.references.reference import Reference

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 512
"""Rows and columns of a weight that are looked at: enough to tell trained from drawn, and quick on any model."""

STANDARD_ERRORS = 6.0
"""How far from its expectation a weight's statistic may be and still pass for a random draw."""


@dataclass(frozen=True)
class ReferenceChecks:
    """What was found about a reference that can be trusted.

    `perplexity` is that of the tokens after the first, nan for a single token and for an encoder; `logits_std` is over
    all logits, or an encoder's outputs. A model of images has its positions for tokens.
    """

    parameters: int
    tokens: int
    distinct_tokens: int
    logits_std: float
    perplexity: float


def check_reference(
    reference: Reference, inputs: Sequence[int] | Tensor, *, known_logits: Tensor | None = None
) -> ReferenceChecks:
    """Run the reference twice over token ids, or over an image [C, H, W], and look at its weights and outputs.

    With `known_logits` [S, V], what it gave for them in an earlier run, it is not run.

    Raises ReferenceCheckError where a parameter is not finite or still as it was drawn at random, a token is outside
    the vocabulary or all of them are the same, an output is not finite or constant, or two runs differ in any bit.
    """
    import torch

    model = reference.model
    first = next(model.parameters())
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        tokens, batch = [0] * reference.context_length, inputs[None].to(first)
    else:
        tokens = [int(token) for token in inputs]
        _check_tokens(tokens, reference.config.vocab_size)
        batch = torch.tensor([tokens], device=first.device)
    _check_weights(reference, getattr(reference.config, "initializer_range", None))
    if known_logits is not None:
        logits_SV = again_SV = known_logits
    else:
        with torch.inference_mode():
            logits_SV, again_SV = (_outputs(reference, batch) for _ in range(2))
    _check_outputs(logits_SV, again_SV)
    return ReferenceChecks(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tokens=len(tokens),
        distinct_tokens=len(set(tokens)),
        logits_std=logits_SV.float().std().item(),
        perplexity=_perplexity(logits_SV, batch[0]) if reference.decodes else math.nan,
    )


def drawn_at_random(weight: Tensor, initializer_range: float | None) -> bool:
    """Whether a matrix is as a fresh model has it: normal with `initializer_range`, or torch's uniform for a linear.

    Two signs must meet. Its standard deviation is that of the draw, within the standard error of a sample. And its rows
    are of equal size to within chance, and so are its columns: training makes some larger than others, and that shows
    long before the standard deviation moves.
    """
    block = weight.detach()[:BLOCK, :BLOCK].double()
    rows, columns = block.shape
    energy = (block - block.mean()).square()
    variance = energy.mean().item()
    if variance == 0.0:
        return False
    # The relative variance of one squared value: 2 for a normal draw, 0.8 for a uniform one.
    spread = energy.var(correction=0).item() / variance**2
    std_error = math.sqrt(spread / (4 * rows * columns))
    draws = [1 / math.sqrt(3 * weight.shape[1]), *([initializer_range] if initializer_range else [])]
    if all(abs(math.sqrt(variance) / std - 1) > STANDARD_ERRORS * std_error for std in draws):
        return False
    uneven_rows = (energy.mean(1) / variance).var(correction=0).item() / (spread / columns)
    uneven_columns = (energy.mean(0) / variance).var(correction=0).item() / (spread / rows)
    return all(
        uneven < 1 + STANDARD_ERRORS * math.sqrt(2 / count)
        for uneven, count in ((uneven_rows, rows), (uneven_columns, columns))
    )


def _check_tokens(token_ids: Sequence[int], vocabulary: int) -> None:
    if not token_ids:
        raise ReferenceCheckError("there are no tokens to run the reference on: give a prompt")
    if outside := [token for token in token_ids if not 0 <= token < vocabulary]:
        raise ReferenceCheckError(
            f"token {outside[0]} is outside the reference's vocabulary of {vocabulary:,}: "
            "the tokenizer belongs to another model"
        )
    if len(token_ids) > 1 and len(set(token_ids)) == 1:
        raise ReferenceCheckError(
            f"all {len(token_ids)} tokens are the same ({token_ids[0]}), which hides faults of position and mask: "
            "give a prompt of real text"
        )


def _check_weights(reference: Reference, initializer_range: float | None) -> None:
    import torch

    state = reference.state_dict()
    for name, _ in reference.model.named_parameters():
        parameter = state[name]
        if not all(bound.isfinite() for bound in torch.aminmax(parameter.detach())):
            raise ReferenceCheckError(f"{name} of the reference holds values that are not finite: its file is damaged")
        if parameter.ndim == 2 and drawn_at_random(parameter, initializer_range):
            raise ReferenceCheckError(
                f"{name} of the reference is still as it was drawn at random, so its weights were not loaded: "
                "load trained ones (from_pretrained reports what it could not fill as missing keys)"
            )


def _outputs(reference: Reference, batch: Tensor) -> Tensor:
    """Logits of a language model, [S, V]; the first output of an encoder, [S, D] or [classes]."""
    if reference.decodes:
        return reference.model(batch, use_cache=False).logits[0]
    return reference.model(batch)[0][0]


def _check_outputs(logits_SV: Tensor, again_SV: Tensor) -> None:
    import torch

    if wrong := int((~logits_SV.isfinite()).sum()):
        raise ReferenceCheckError(f"{wrong:,} of the reference's {logits_SV.numel():,} logits are not finite")
    if not (logits_SV.std(dim=-1) > 0).all():
        raise ReferenceCheckError("the reference's logits are constant at some position: its weights are no model's")
    if not torch.equal(logits_SV, again_SV):
        differing = int((logits_SV != again_SV).sum())
        raise ReferenceCheckError(
            f"two runs of the reference differ in {differing:,} of {logits_SV.numel():,} logits: "
            "see that it is in evaluation mode, or fix the number of threads"
        )


def _perplexity(logits_SV: Tensor, ids_S: Tensor) -> float:
    from torch.nn.functional import cross_entropy

    return math.exp(cross_entropy(logits_SV[:-1].float(), ids_S[1:]).item()) if len(ids_S) > 1 else math.nan
