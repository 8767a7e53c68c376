# SPDX-License-Identifier: Apache-2.0
"""Normalisation over the last dimension, with what a port may do otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.specs import NormSpec


@dataclass(frozen=True)
class NormSteps:
    """Steps of a norm that the spec leaves no choice about: squares are averaged, gain and bias are applied."""

    sums_squares: bool = False
    applies_gain: bool = True
    applies_bias: bool = True


def norm(spec: NormSpec, arithmetic: Arithmetic, x: torch.Tensor, steps: NormSteps = NormSteps()) -> torch.Tensor:
    """x […, D] normalised, same shape. Raises WeightsError for a missing gain or bias."""
    if spec.norm_type == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    squares = x.square().sum(-1, keepdim=True)
    if not steps.sums_squares:
        squares = squares / x.shape[-1]
    out = x / (squares + spec.eps).sqrt()
    if steps.applies_gain:
        out = out * (arithmetic.weight("weight") + float(spec.unit_offset))
    if spec.bias and steps.applies_bias:
        out = out + arithmetic.weight("bias")
    return arithmetic.rounded(out)
