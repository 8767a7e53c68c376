# SPDX-License-Identifier: Apache-2.0
"""The steps that prefill and decode attention share: products by head, exponentials, what a chunk of keys leaves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.units import Units
from tttdebug.emulator.formats import BFLOAT16, FLOAT32
from tttdebug.emulator.kernel import Kernel
from tttdebug.emulator.plans import SINGLE_BLOCK, AttentionPlan, MatmulPlan
from tttdebug.emulator.rounding import to_bfloat16_truncated

# B batch, H query heads, K key/value heads, G query heads per key/value head, S query positions, T key positions,
# E head dim, C keys of a chunk


class Partial(NamedTuple):
    """What was found in some of the keys: the largest score, the sum of weights, the weighted values.

    The sum is one column, or in prefill the 32 columns of a tile that are added up at the end.
    """

    maximum: Tensor
    total: Tensor
    weighted: Tensor


def unseen(keys: Tensor, last: Tensor | int, window: int | None) -> Tensor:
    """Which keys are hidden from a query whose own position is `last`."""
    future = keys > last
    return future if window is None else future | (keys <= last - window)


def by_kv_head(a: Tensor, b: Tensor, kernel: Kernel, units: Units) -> Tensor:
    """[..., G, S, n] or [..., G, n] rows of each key/value head times that head's matrix, as Dest keeps it."""
    heads = b.flatten(0, -3)
    rows = a.reshape(heads.shape[0], -1, a.shape[-1])
    plan = MatmulPlan(kernel, SINGLE_BLOCK, BFLOAT16, BFLOAT16, FLOAT32)
    return units.matrix_product(rows, heads, plan).view(*a.shape[:-1], b.shape[-1])


def packed(dest: Tensor) -> Tensor:
    """Dest packed into a bfloat16 buffer."""
    return BFLOAT16.pack(dest)


def schraudolph(x: Tensor, scale: float, *, fp32_dest: bool) -> Tensor:
    """The unit's approximate exp(x·scale), not clamped below: what underflows is negative, and the packer zeroes it."""
    slope = torch.tensor(sfpu.SCHRAUDOLPH_SLOPE * scale, dtype=torch.float32).item()
    linear = torch.nn.functional.relu(sfpu.fma(x, slope, sfpu.SCHRAUDOLPH_OFFSET))
    bits = linear.add_(0.5).clamp_(max=32767).to(torch.int32).bitwise_left_shift_(15)
    return (bits if fp32_dest else bits.bitwise_and_(-65536)).view(torch.float32)


def bfloat16_scale(plan: AttentionPlan) -> float:
    return to_bfloat16_truncated(torch.tensor(plan.scale, dtype=torch.float32)).item()


def accurate_exponential(x: Tensor, kernel: Kernel) -> Tensor:
    """exp, packed as bfloat16."""
    return packed(sfpu.exp_fp32(x) if kernel.fp32_dest else sfpu.exp_bf16(x, 1.0017248))


def correction(old: Tensor, new: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    """exp((old − new) · scale), by which what was summed under the old maximum shrinks; bfloat16 (C11)."""
    kernel = plan.kernel
    x = sfpu.multiply(units.subtract(old, new, kernel), bfloat16_scale(plan))
    if plan.approximate_exponential:
        return accurate_exponential(x, kernel)
    k = sfpu.nearest_away(sfpu.multiply(x, 1.44269504)).clamp(-127, 127)
    f = sfpu.fma(k.to(torch.float32), -0.69314718, x)
    coefficients: tuple[float, ...] = (0.50628367, 1.01508760, 0.99984879)
    if kernel.fp32_dest:
        coefficients = (0.041959440, 0.16792158, 0.49998366, 0.99996228, 1.00000015)
    y = sfpu.multiply(sfpu.horner(f, *coefficients), torch.ldexp(torch.ones_like(f), k.to(torch.float32)))
    return packed(torch.where(k == -127, 0.0, y))
