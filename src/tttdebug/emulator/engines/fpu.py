# SPDX-License-Identifier: Apache-2.0
"""The matrix unit (FPU) element by element and along rows: sums, products and reductions as Dest keeps them.

These follow the unit bit by bit (but for fp32 sums, whose last bits may differ); only matrix products are approximated,
in matrix_product.py. Dest values come as fp32 tensors, which hold bfloat16 values when Dest is bfloat16.

A product is made in up to four phases. SrcA shows 5 bits of its significand at a time and SrcB 7:

    phase   SrcA           SrcB
    0       first 5 bits   first 7 bits
    1       next 5 bits    first 7 bits
    2       first 5 bits   last 4 bits
    3       next 5 bits    last 4 bits

LoFi runs phase 0, HiFi2 0–1, HiFi3 0–2, HiFi4 all. An elementwise op takes its first operand into SrcA, a matrix
product its right one (the weights); row reductions have the data in SrcB, column reductions in SrcA.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from tttdebug.emulator.formats import TF32
from tttdebug.emulator.kernel import Kernel, MathFidelity
from tttdebug.emulator.rounding import to_bfloat16_ties_away, to_bfloat16_truncated, truncate_fraction

# Fraction bits (the hidden one not counted) that survive a cut to the first bits, or to all that any phase sees.
SRC_A_FIRST, SRC_A_ALL = 4, 9
SRC_B_FIRST = 6
_EXPONENT = 0x7F800000
_TIES_AWAY = 1 + 2.0**-12  # stretches an 11-bit number over a tie, and over nothing else


def to_source(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """A tile in a source register: bfloat16 as it is; fp32 cut to tf32 with fp32 Dest, to bfloat16 without."""
    if x.dtype == torch.bfloat16:
        return x
    return TF32.unpack(x) if fp32_dest else to_bfloat16_truncated(x)


def round_dest(x: Tensor, kernel: Kernel) -> Tensor:
    """What Dest keeps of an fp32 result."""
    return x if kernel.fp32_dest else to_bfloat16_ties_away(x).to(torch.float32)


def add(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """a + b: both rounded to 10 bits below the larger exponent, ties away from zero, then as Dest keeps it.

    Adding a number 13 binades up, and taking it off again, makes fp32 itself round there.
    """
    a = to_source(a, fp32_dest=kernel.fp32_dest).to(torch.float32)
    b = to_source(b, fp32_dest=kernel.fp32_dest).to(torch.float32)
    exponent = torch.maximum(a.view(torch.int32) & _EXPONENT, b.view(torch.int32) & _EXPONENT)
    rounder = exponent.add_((13 << 23) | 1 << 22).view(torch.float32)
    total = torch.add(torch.add(rounder, a, alpha=_TIES_AWAY), b, alpha=_TIES_AWAY).sub_(rounder)
    return round_dest(total, kernel)


def subtract(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """a − b, as `add` rounds."""
    return add(a, -b, kernel)


def multiply(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """a·b with a in SrcA and b in SrcB, phase by phase."""
    a, b = to_source(a, fp32_dest=kernel.fp32_dest), to_source(b, fp32_dest=kernel.fp32_dest)
    if not kernel.fp32_dest:
        return _multiply_bfloat16(a, b, kernel.fidelity)
    a, b = truncate_fraction(a.to(torch.float32), SRC_A_ALL), b.to(torch.float32)
    if kernel.fidelity is MathFidelity.HiFi4:
        return a * b
    b_first = truncate_fraction(b, SRC_B_FIRST)
    if kernel.fidelity is MathFidelity.HiFi2:
        return a * b_first
    a_first = truncate_fraction(a, SRC_A_FIRST)
    return a_first * b_first if kernel.fidelity is MathFidelity.LoFi else a * b_first + a_first * (b - b_first)


def _multiply_bfloat16(a: Tensor, b: Tensor, fidelity: MathFidelity) -> Tensor:
    """Products into a bfloat16 Dest, which rounds after every phase: looked up by sign and both 7-bit fractions."""
    table = _products(fidelity, a.device)
    a_bits, b_bits = a.contiguous().view(torch.int16), b.contiguous().view(torch.int16)
    a_index = ((a_bits & 0x7F) << 7 | a_bits & -0x8000).to(torch.int32)
    b_index = (b_bits & 0x7F | b_bits & -0x8000).to(torch.int32)
    index = (a_index ^ b_index).bitwise_and_(0x8000).bitwise_right_shift_(1).bitwise_or_((a_index | b_index) & 0x3FFF)
    scale = _power_of_two(a_bits) * _power_of_two(b_bits)
    return table.index_select(0, index.view(-1)).view(index.shape).mul_(scale)


def _power_of_two(bits: Tensor) -> Tensor:
    """±2^exponent of bfloat16 patterns, 0 for zeros and denormals."""
    return (bits & -0x80).view(torch.bfloat16).to(torch.float32)


@lru_cache(maxsize=16)
def _products(fidelity: MathFidelity, device: torch.device) -> Tensor:
    """Magnitudes of products of [1, 2) × [1, 2) as a bfloat16 Dest ends with them, by sign, fraction a, fraction b."""
    significands = torch.arange(128, 256, dtype=torch.float64) / 128
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).view(2, 1, 1)
    a, b = significands.view(1, 128, 1), significands.view(1, 1, 128)
    a_first, b_first = torch.floor(a * 16) / 16, torch.floor(b * 64) / 64
    dest = torch.zeros(2, 128, 128, dtype=torch.float64)
    for a_part, b_part in _phases(a_first, a - a_first, b_first, b - b_first, fidelity):
        unit = torch.exp2(torch.floor(torch.log2(dest.abs().clamp(min=1.0))) - 10)
        total = dest + torch.floor(sign * a_part * b_part / unit + 0.5) * unit
        dest = to_bfloat16_ties_away(total.to(torch.float32)).to(torch.float64)
    return dest.abs().to(device, torch.float32).view(-1)


def _phases(
    a_first: Tensor, a_next: Tensor, b_first: Tensor, b_last: Tensor, fidelity: MathFidelity
) -> list[tuple[Tensor, Tensor]]:
    """The pairs of operand parts that each phase multiplies."""
    return [(a_first, b_first), (a_next, b_first), (a_first, b_last), (a_next, b_last)][: fidelity.value]


def sum_rows(x: Tensor, kernel: Kernel, scaler: float = 1.0) -> Tensor:
    """The sum over the last dimension (kept) times `scaler`, tile by tile: data in SrcB, the scaler in SrcA."""
    x = to_source(x, fp32_dest=kernel.fp32_dest).to(torch.float32)
    x_first, weight = truncate_fraction(x, SRC_B_FIRST), scaler_tile(scaler)
    weight_first = truncate_fraction(weight, SRC_A_FIRST)
    parts = _phases(weight_first, weight - weight_first, x_first, x - x_first, kernel.fidelity)
    return _accumulate(x, [(data, float(part)) for part, data in parts], weight, kernel, phases_first=True)


def sum_columns(x: Tensor, kernel: Kernel, scaler: float = 1.0) -> Tensor:
    """The sum over the second-last dimension (kept) times `scaler`: data in SrcA, the scaler in SrcB."""
    x = truncate_fraction(to_source(x.mT, fp32_dest=kernel.fp32_dest).to(torch.float32), SRC_A_ALL)
    x_first, weight = truncate_fraction(x, SRC_A_FIRST), scaler_tile(scaler)
    weight_first = truncate_fraction(weight, SRC_B_FIRST)
    parts = _phases(x_first, x - x_first, weight_first, weight - weight_first, kernel.fidelity)
    return _accumulate(x, [(data, float(part)) for data, part in parts], weight, kernel, phases_first=False).mT


def scaler_tile(scaler: float) -> Tensor:
    """A reduction's factor as its bfloat16 tile holds it."""
    return to_bfloat16_truncated(torch.tensor(scaler, dtype=torch.float32)).to(torch.float32)


def _accumulate(
    x: Tensor, parts: list[tuple[Tensor, float]], weight: Tensor, kernel: Kernel, *, phases_first: bool
) -> Tensor:
    """The sum over the last dimension of each phase's products (data part, scaler part), as Dest keeps it.

    Products are added in groups of 8, rounded to 10 bits below the group's largest exponent: that of the whole
    operands, lowered by 5 and 7 for their later bits.
    """
    weight_exponent = int(torch.frexp(weight).exponent) - 1
    largest = (_grouped(x).view(torch.int32) & _EXPONENT).amax(-1).bitwise_right_shift_(23).add_(weight_exponent)
    exponents = [largest - 5 * (phase % 2) - 7 * (phase // 2) for phase in range(len(parts))]
    terms = [
        _group_sums(data, part, exponent) if part else torch.zeros_like(exponent, dtype=torch.float32)
        for (data, part), exponent in zip(parts, exponents, strict=True)
    ]
    if kernel.fp32_dest:
        return sum(terms[1:], terms[0]).sum(-1, keepdim=True)
    empty = _in_order(torch.tensor([[part == 0] * terms[0].shape[-1] for _, part in parts]), phases_first=phases_first)
    steps = _in_order(torch.stack(terms, -2), phases_first=phases_first).double().unbind(-2)
    tops = _in_order(torch.stack(exponents, -2), phases_first=phases_first).amax(-1).long().add_(1023 - 127).unbind(-1)
    dest = torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
    for pair, top, nothing in zip(steps, tops, empty[..., 0].tolist(), strict=True):
        if not (nothing and bool((top <= _float64_exponent(dest)).all())):
            dest = _add_to_bfloat16(dest, pair, top)
    return dest.to(torch.float32)[..., None]


def _float64_exponent(x: Tensor) -> Tensor:
    """The biased exponent of float64, 0 for zero."""
    return (x.view(torch.int64) >> 52).bitwise_and_(2047)


def _add_to_bfloat16(dest: Tensor, pair: Tensor, top: Tensor) -> Tensor:
    """Two group sums added to the bfloat16 values in Dest, all float64.

    Everything is aligned to 10 bits below the largest exponent (`top`, biased, or that of Dest): Dest with ties away
    from zero, the sums with ties up. The result is rounded to 8 significant bits, ties away.
    """
    exponent = torch.maximum(_float64_exponent(dest), top)
    rounder = (exponent + (52 - 10) << 52).bitwise_or_(1 << 51).view(torch.float64)
    upward = (exponent - (10 + 20) << 52).view(torch.float64)
    first, second = (pair + upward[..., None]).unbind(-1)
    total = torch.add(rounder, dest, alpha=_TIES_AWAY).add_(first).add_(second).sub_(rounder)
    return total.view(torch.int64).add_(1 << 44).bitwise_and_(-(1 << 45)).view(torch.float64)


def _group_sums(data: Tensor, scaler: float, exponent: Tensor) -> Tensor:
    """Sums of 8 neighbours times `scaler`, each product rounded half away to 10 bits below 2^exponent (biased)."""
    rounder = ((exponent.clamp(1, 240) + 13 << 23) | 1 << 22).view(torch.float32)[..., None]
    return torch.add(rounder, _grouped(data), alpha=scaler * (1 + 2.0**-13)).sub_(rounder).sum(-1)


def _grouped(x: Tensor) -> Tensor:
    """The last dimension in groups of 8, padded to whole tiles with zeros."""
    padding = -x.shape[-1] % 32
    padded = torch.nn.functional.pad(x, (0, padding)) if padding else x
    return padded.contiguous().unflatten(-1, (-1, 8))


def _in_order(terms: Tensor, *, phases_first: bool) -> Tensor:
    """[..., phase, group] as [..., step, 2] in the order of accumulation: per tile of four groups, phases outside or
    inside its two faces."""
    steps = terms.unflatten(-1, (-1, 2, 2)).movedim(-4, -3 if phases_first else -2)
    return steps.flatten(-4, -2)


def max_rows(x: Tensor, *, fp32_scaler: bool = False) -> Tensor:
    """The maximum over the last dimension (kept). It comes back through SrcB and is cut there as the scaler's tile is:
    to bfloat16, or to tf32 with an fp32 scaler."""
    highest = x.amax(-1, keepdim=True).to(torch.float32)
    return truncate_fraction(highest, 10) if fp32_scaler else to_bfloat16_truncated(highest).to(torch.float32)
