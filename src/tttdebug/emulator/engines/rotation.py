# SPDX-License-Identifier: Apache-2.0
"""The product that turns pairs of columns for a rotary embedding, without its sums where it only moves columns."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines.fpu import SRC_B_FIRST
from tttdebug.emulator.engines.units import Units
from tttdebug.emulator.plans import SINGLE_BLOCK, MatmulPlan, RotaryPlan
from tttdebug.emulator.rounding import truncate_fraction

_SMALLEST, _LARGEST = 2.0**-100, 2.0**100  # between them every phase of a product with ±1 counts
_PHASES_OF_ALL_BITS = 3  # that show a bfloat16 whole


def turned_pairs(x: Tensor, transform: Tensor, plan: RotaryPlan, units: Units) -> Tensor:
    """x·transform, packed as the plan says; `transform` is square and acts on each so many columns of x."""
    tiles = x.unflatten(-1, (-1, transform.shape[-1]))
    if plan.kernel.fp32_dest or not (_moves_columns(transform) and _is_moderate(x)):
        product = MatmulPlan(plan.kernel, SINGLE_BLOCK, plan.output, plan.output, plan.output)
        return plan.output.pack(units.matrix_product(tiles, transform, product)).flatten(-2)
    sources = transform.abs().argmax(0)
    moved = tiles.index_select(-1, sources) * transform.gather(0, sources[None])
    if plan.kernel.phases < _PHASES_OF_ALL_BITS:
        moved = truncate_fraction(moved, SRC_B_FIRST)
    return plan.output.pack(moved).flatten(-2)


def _moves_columns(transform: Tensor) -> bool:
    """Whether every column holds a single number, which is 1 or −1."""
    sizes = transform.to(torch.float32).abs()
    return bool(((sizes == 1).sum(0) == 1).all()) and bool((sizes.sum(0) == 1).all())


def _is_moderate(x: Tensor) -> bool:
    """Whether x is a bfloat16 tensor of zeros and numbers far from the ends of the range."""
    if x.dtype != torch.bfloat16:
        return False
    sizes = x.abs()
    return bool((sizes <= _LARGEST).all()) and bool(((sizes >= _SMALLEST) | (sizes == 0)).all())
