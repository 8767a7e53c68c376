# SPDX-License-Identifier: Apache-2.0
"""The matrix unit bit by bit on a GPU: matrix_unit.py and matrix_unit_elementwise.py as Triton kernels.

The arithmetic is theirs, step for step, so that both give the same bits. A program computes a block of the result and
keeps its Dest in registers; the operands' parts and exponents are made from their patterns as they are read.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 32
_EMPTY = tl.constexpr(-100_000)
_STRETCH = tl.constexpr(1 + 2.0**-13)
_SCALE = tl.constexpr(2.0**64)
_LARGEST_SUM, _LARGEST_LEFT = 176, 189


@triton.jit
def _rounded_right(value, by):  # type: ignore[no-untyped-def]
    """value / 2^by to the nearest integer, ties up."""
    return (value + ((1 << by) >> 1)) >> by


@triton.jit
def _add_to_dest(s0, e0, s1, e1, dest, FP32: tl.constexpr, WORMHOLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """See dest_register.add_to_dest."""
    e_dest = (dest >> 23) & 255
    m_dest = tl.where(e_dest > 0, (dest & 0x7FFFFF) | 0x800000, 0)
    top = tl.maximum(tl.maximum(e0, e1), e_dest)
    m0 = _rounded_right(s0 << 13, tl.minimum(top - e0, 30))
    m1 = _rounded_right(s1 << 13, tl.minimum(top - e1, 30))
    m_dest = _rounded_right(m_dest, tl.minimum(top - e_dest, 30))
    if not FP32:
        m0, m1, m_dest = (m0 + 4096) & -8192, (m1 + 4096) & -8192, (m_dest + 4096) & -8192
    sign_dest = dest >> 31
    total = m0 + m1 + ((m_dest ^ sign_dest) - sign_dest)
    sign = total >> 31
    magnitude = (total ^ sign) - sign
    rounded_down = (magnitude & ~(magnitude >> 1)).to(tl.float32)
    highest = (rounded_down.to(tl.int32, bitcast=True) >> 23) - 127
    exponent = top + highest - 23
    if FP32:
        up = tl.maximum(23 - highest, 0) & 31
        significand = _rounded_right(magnitude, tl.maximum(highest - 23, 0)) << up
        if WORMHOLE:
            fault = total == -1
            exponent = tl.where(fault, exponent + 27, exponent)
            significand = tl.where(fault, 0x800000, significand)
    else:
        significand = _rounded_right(magnitude, tl.maximum(highest - 7, 0)) << 16
    exponent = exponent + (significand >> 23) - 1
    value = tl.where(exponent < 255, (exponent << 23) | (significand & 0x7FFFFF), 0x7F800000)
    lives = (magnitude != 0) & (top > 0) & (exponent > 0)
    return tl.where(lives, value | (sign << 31), 0)


@triton.jit
def _part(bits, FRACTION: tl.constexpr, DOUBLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The value of a pattern cut to its first fraction bits; zero for zeros and denormals."""
    kept = tl.where((bits & 0x7F800000) != 0, bits & (-1 << (23 - FRACTION)), 0)
    if DOUBLE:
        wide = kept.to(tl.int64)
        magnitude = ((wide & 0x7FFFFFFF) << 29) + (896 << 52)
        value = tl.where(kept != 0, magnitude, 0).to(tl.float64, bitcast=True)
        return tl.where(kept < 0, -value, value)
    else:
        return kept.to(tl.float32, bitcast=True)


@triton.jit
def _part_of_phase(bits, PHASE: tl.constexpr, SOURCE_A: tl.constexpr, DOUBLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """What a phase sees of an operand in SrcA or in SrcB."""
    if SOURCE_A:
        first = _part(bits, 4, DOUBLE)
        return first if PHASE % 2 == 0 else _part(bits, 9, DOUBLE) - first
    else:
        first = _part(bits, 6, DOUBLE)
        return first if PHASE < 2 else _part(bits, 10, DOUBLE) - first


@triton.jit
def _exponents(bits):  # type: ignore[no-untyped-def]
    field = (bits >> 23) & 255
    return tl.where(field != 0, field, _EMPTY)


@triton.jit
def _empty_sum(exponent, DOUBLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The bits of the float to which a group of products below 2^(exponent − 127) is added; see matrix_unit.py."""
    if DOUBLE:
        return ((exponent.to(tl.int64) + (42 + 1023 - 127)) << 52) | (1 << 51)
    else:
        return ((exponent + (13 + 64)) << 23) | (1 << 22)


@triton.jit
def _as_float(bits, DOUBLE: tl.constexpr):  # type: ignore[no-untyped-def]
    return bits.to(tl.float64, bitcast=True) if DOUBLE else bits.to(tl.float32, bitcast=True)


@triton.jit
def _as_bits(value, DOUBLE: tl.constexpr):  # type: ignore[no-untyped-def]
    return value.to(tl.int64, bitcast=True) if DOUBLE else value.to(tl.int32, bitcast=True)


@triton.jit
def _product_kernel(  # type: ignore[no-untyped-def]
    left, right, dest, M, N, K,
    PHASES: tl.constexpr, FP32: tl.constexpr, WORMHOLE: tl.constexpr, LEFT_IS_A: tl.constexpr,
    HALVES_FIRST: tl.constexpr, DOUBLE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (m[:, None] < M) & (n[None, :] < N)
    sums = tl.load(dest + m[:, None] * N + n[None, :], mask=inside, other=0)
    for tile in range(0, K, 32):
        tops0 = tl.full((ROWS, COLUMNS), _EMPTY, tl.int32)
        tops1, tops2, tops3 = tops0, tops0, tops0
        for lane in range(8):
            k = tile + lane
            tops0 = _raised(tops0, left, right, m, n, k, M, N, K)
            tops1 = _raised(tops1, left, right, m, n, k + 8, M, N, K)
            tops2 = _raised(tops2, left, right, m, n, k + 16, M, N, K)
            tops3 = _raised(tops3, left, right, m, n, k + 24, M, N, K)
        for at in tl.static_range(2 * PHASES):
            half: tl.constexpr = at // PHASES if HALVES_FIRST else at % 2
            phase: tl.constexpr = at % PHASES if HALVES_FIRST else at // 2
            lowered: tl.constexpr = 5 * (phase % 2) + 7 * (phase // 2)
            e0 = tl.maximum((tops0 if half == 0 else tops2) - lowered, 0)
            e1 = tl.maximum((tops1 if half == 0 else tops3) - lowered, 0)
            empty0, empty1 = _empty_sum(e0, DOUBLE), _empty_sum(e1, DOUBLE)
            x, y = _as_float(empty0, DOUBLE), _as_float(empty1, DOUBLE)
            for lane in range(8):
                k = tile + 16 * half + lane
                x += _products(left, right, m, n, k, M, N, K, phase, LEFT_IS_A, DOUBLE)
                y += _products(left, right, m, n, k + 8, M, N, K, phase, LEFT_IS_A, DOUBLE)
            s0 = tl.where(e0 > 0, (_as_bits(x, DOUBLE) - empty0).to(tl.int32), 0)
            s1 = tl.where(e1 > 0, (_as_bits(y, DOUBLE) - empty1).to(tl.int32), 0)
            sums = _add_to_dest(s0, e0, s1, e1, sums, FP32, WORMHOLE)
    tl.store(dest + m[:, None] * N + n[None, :], sums, mask=inside)


@triton.jit
def _raised(tops, left, right, m, n, k, M, N, K):  # type: ignore[no-untyped-def]
    """The larger of `tops` and the exponents of the products of lane k."""
    a = _exponents(tl.load(left + m * K + k, mask=m < M, other=0))
    b = _exponents(tl.load(right + k * N + n, mask=n < N, other=0))
    return tl.maximum(tops, a[:, None] + b[None, :] - 127)


@triton.jit
def _products(  # type: ignore[no-untyped-def]
    left, right, m, n, k, M, N, K, PHASE: tl.constexpr, LEFT_IS_A: tl.constexpr, DOUBLE: tl.constexpr
):
    a = _part_of_phase(tl.load(left + m * K + k, mask=m < M, other=0), PHASE, LEFT_IS_A, DOUBLE)
    b = _part_of_phase(tl.load(right + k * N + n, mask=n < N, other=0), PHASE, not LEFT_IS_A, DOUBLE)
    if not DOUBLE:
        a = a * _SCALE
    return a[:, None] * (b * _STRETCH)[None, :]


def multiply_into(
    dest_MN: Tensor,
    left_MK: Tensor,
    right_KN: Tensor,
    *,
    phases: int,
    fp32_dest: bool,
    wormhole: bool,
    left_is_source_a: bool,
    halves_first: bool,
) -> None:
    """See matrix_unit.multiply_into."""
    padding = -left_MK.shape[1] % TILE
    left = _patterns(torch.nn.functional.pad(left_MK, (0, padding)))
    right = _patterns(torch.nn.functional.pad(right_KN, (0, 0, 0, padding)))
    dest = dest_MN.view(torch.int32)
    (M, K), N = left.shape, right.shape[1]
    largest = [int(((x >> 23) & 255).amax()) for x in (left, right)]
    double = largest[0] > _LARGEST_LEFT or sum(largest) - 127 > _LARGEST_SUM
    rows, columns = 16, 64
    _product_kernel[triton.cdiv(M, rows), triton.cdiv(N, columns)](
        left, right, dest, M, N, K, PHASES=phases, FP32=fp32_dest, WORMHOLE=wormhole, LEFT_IS_A=left_is_source_a,
        HALVES_FIRST=halves_first, DOUBLE=double, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip


@triton.jit
def _significand(bits):  # type: ignore[no-untyped-def]
    return tl.where((bits & 0x7F800000) != 0, ((bits >> 13) & 0x3FF) | 0x400, 0)


@triton.jit
def _negated(value, bits):  # type: ignore[no-untyped-def]
    return tl.where(bits < 0, -value, value)


@triton.jit
def _sum_kernel(a_at, b_at, out, size, FP32: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a, b = tl.load(a_at + at, mask=at < size, other=0), tl.load(b_at + at, mask=at < size, other=0)
    e_a, e_b = (a >> 23) & 255, (b >> 23) & 255
    top = tl.maximum(e_a, e_b)
    m_a = _rounded_right(_significand(a), tl.minimum(top - e_a, 24))
    m_b = _rounded_right(_significand(b), tl.minimum(top - e_b, 24))
    none = tl.zeros((BLOCK,), tl.int32)
    total = _add_to_dest(_negated(m_a, a) + _negated(m_b, b), top, none, none, none, FP32, False)
    tl.store(out + at, total, mask=at < size)


@triton.jit
def _pairs_kernel(a_at, b_at, out, size, PHASES: tl.constexpr, FP32: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a, b = tl.load(a_at + at, mask=at < size, other=0), tl.load(b_at + at, mask=at < size, other=0)
    m_a, m_b = _significand(a), _significand(b)
    exponent = tl.where((m_a != 0) & (m_b != 0), ((a >> 23) & 255) + ((b >> 23) & 255) - 127, 0)
    none = tl.zeros((BLOCK,), tl.int32)
    dest = none
    for phase in tl.static_range(PHASES):
        part_a = m_a >> 6 if phase % 2 == 0 else (m_a >> 1) & 31
        part_b = m_b >> 4 if phase < 2 else (m_b & 15) * 8
        e = tl.maximum(exponent - 5 * (phase % 2) - 7 * (phase // 2), 0)
        m = tl.where(e > 0, _negated(part_a * part_b, a ^ b), 0)
        dest = _add_to_dest(m, e, none, none, dest, FP32, False)
    tl.store(out + at, dest, mask=at < size)


def add(a: Tensor, b: Tensor, *, fp32_dest: bool) -> Tensor:
    """See matrix_unit_elementwise.add."""
    a, b, out = _elementwise(a, b)
    _sum_kernel[(triton.cdiv(out.numel(), 1024),)](a, b, out.view(torch.int32), out.numel(), FP32=fp32_dest, BLOCK=1024)
    return out


def multiply(a: Tensor, b: Tensor, *, phases: int, fp32_dest: bool) -> Tensor:
    """See matrix_unit_elementwise.multiply."""
    a, b, out = _elementwise(a, b)
    _pairs_kernel[(triton.cdiv(out.numel(), 1024),)](
        a, b, out.view(torch.int32), out.numel(), PHASES=phases, FP32=fp32_dest, BLOCK=1024
    )
    return out


def _elementwise(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b = torch.broadcast_tensors(a, b)
    return _patterns(a), _patterns(b), torch.empty(a.shape, dtype=torch.float32, device=a.device)


def _patterns(x: Tensor) -> Tensor:
    return x.detach().to(torch.float32).contiguous().view(torch.int32)
