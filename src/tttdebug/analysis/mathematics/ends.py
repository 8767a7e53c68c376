# SPDX-License-Identifier: Apache-2.0
"""Where a model begins and ends: the embedding of tokens, and the head that gives logits.

T tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.analysis.mathematics.norm import norm

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.specs import EmbeddingSpec, LMHeadSpec


@dataclass(frozen=True)
class EmbeddingSteps:
    """`position_shift` is added to positions before the table is read; `adds_…` say what is added, `norms` whether."""

    position_shift: int = 0
    adds_positions: bool = True
    adds_token_types: bool = True
    norms: bool = True
    id_shift: int = 0


@dataclass(frozen=True)
class HeadSteps:
    """Whether the bias is added."""

    applies_bias: bool = True


def embed(
    spec: EmbeddingSpec,
    arithmetic: Arithmetic,
    ids_T: torch.Tensor,
    positions_T: torch.Tensor,
    steps: EmbeddingSteps = EmbeddingSteps(),
) -> torch.Tensor:
    """Token ids [T] to vectors [T, D]; all tokens are of type 0. Raises WeightsError for a missing table."""
    ids_T = (ids_T.long() + steps.id_shift) % spec.vocab_size
    x_TD = arithmetic.weight("weight", ids_T) * (1.0 if spec.scale is None else spec.scale)
    if spec.learned_positions is not None and steps.adds_positions:
        rows = (positions_T.long() + steps.position_shift).clamp(0, spec.learned_positions - 1)
        x_TD = x_TD + arithmetic.weight("positions", rows)
    if spec.token_types is not None and steps.adds_token_types:
        x_TD = x_TD + arithmetic.weight("token_types")[0]
    x_TD = arithmetic.rounded(x_TD)
    return x_TD if spec.norm is None or not steps.norms else norm(spec.norm, arithmetic.under("norm"), x_TD)


def ids_of_sum(
    spec: EmbeddingSpec, weights: Mapping[str, torch.Tensor], sum_TD: torch.Tensor, positions_T: torch.Tensor
) -> torch.Tensor:
    """The token ids [T] whose embedding, with positions and types added, is nearest to these vectors [T, D].

    The norm, if the spec has one, is not in these. Raises KeyError for a missing table.
    """

    rows_TD = sum_TD.float()
    if spec.learned_positions is not None:
        rows_TD = rows_TD - weights["positions"].float()[positions_T.long().clamp(0, spec.learned_positions - 1)]
    if spec.token_types is not None:
        rows_TD = rows_TD - weights["token_types"].float()[0]
    table_VD = weights["weight"].float() * (1.0 if spec.scale is None else spec.scale)
    distance_TV = (
        table_VD.square().sum(-1) - 2.0 * rows_TD @ table_VD.T
    )  # less the square of each row, which is the same for all
    return distance_TV.argmin(-1)


def logits(
    spec: LMHeadSpec, arithmetic: Arithmetic, x_TD: torch.Tensor, steps: HeadSteps = HeadSteps()
) -> torch.Tensor:
    """Hidden states [T, D] to logits [T, V], V with the checkpoint's padding. Raises WeightsError."""
    out_TV = arithmetic.linear(x_TD, "weight", "bias" if spec.bias and steps.applies_bias else None)
    if spec.logit_scale is not None:
        out_TV = out_TV * spec.logit_scale
    if spec.logit_softcap is not None:
        out_TV = spec.logit_softcap * (out_TV / spec.logit_softcap).tanh()
    return arithmetic.rounded(out_TV)
