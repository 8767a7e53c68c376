# SPDX-License-Identifier: Apache-2.0
"""The matrix unit bit by bit, compiled: each multiply step of a product in the chip's order, Dest rounded after each.

A step multiplies 16 pairs of operand parts (5 bits from SrcA, 7 from SrcB; see fpu.py for the phases) in two groups of
8. A group aligns its products to the largest exponent of its operands, rounds them there to 10 bits with ties away
from zero and adds them up; both group sums are then added to Dest, which rounds as `add_to_dest` says.

Rounding to a given bit is what a float adder does anyway: products are added to a number so large that its last bit has
the weight wanted. Each operand part of one side is stretched by 2⁻¹³ first, which carries a product over a tie and over
nothing else, for products have 12 bits. The sum of a group is then the difference of two bit patterns.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor

from tttdebug.emulator.engines.dest_register import add_to_dest, as_bits, as_float, compiled, i32

# M rows of the left operand, K summed, N columns of the right one

TILE = 32
COLUMNS, _ROWS = 64, 32  # of the result that one job computes: its operands stay in the first-level cache
_EMPTY = -100_000  # the exponent of a zero: it never is the largest of a group
_LOWERED = np.array([0, 5, 7, 12], dtype=np.int32)  # how far below the operands' exponents each phase lies
_STRETCH = 1 + 2.0**-13
_WORTH_A_THREAD = 1 << 21  # multiplications


# A group sum is kept in a float of one of two sizes. Its exponent is the operands' times a bias that makes the last
# fraction bit weigh 2^(e − 127 − 10); single precision moves all by 2^64 to stay clear of denormals.
_SINGLE_SCALE = 2.0**64
_BIASES = {types.float32: 13 + 64, types.float64: 42 + 1023 - 127}
_LARGEST_FOR_SINGLE = 253 - _BIASES[types.float32]


@intrinsic
def _empty_sum(context: Any, exponent: Any, like: Any) -> Any:
    """The bits of the float, of the type of `like`, to which a group of products below 2^(exponent − 127) is added."""
    integer, fraction = (types.int32, 23) if like == types.float32 else (types.int64, 52)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(integer)
        wide = args[0] if integer == types.int32 else builder.zext(args[0], kind)
        field = builder.shl(builder.add(wide, kind(_BIASES[like])), kind(fraction))
        return builder.or_(field, kind(1 << (fraction - 1)))

    return integer(exponent, like), generate


@njit(inline="always")
def _largest_exponents(a, m, b, k, tops, group):  # type: ignore[no-untyped-def]
    """For row m of a and the 8 from k on: the largest sum of exponents per column."""
    a0, a1, a2, a3, a4, a5, a6, a7 = (
        a[m, k], a[m, k + 1], a[m, k + 2], a[m, k + 3], a[m, k + 4], a[m, k + 5], a[m, k + 6], a[m, k + 7],
    )  # fmt: skip
    for n in range(COLUMNS):
        front = max(max(i32(a0 + b[k, n]), i32(a1 + b[k + 1, n])), max(i32(a2 + b[k + 2, n]), i32(a3 + b[k + 3, n])))
        back = max(max(i32(a4 + b[k + 4, n]), i32(a5 + b[k + 5, n])), max(i32(a6 + b[k + 6, n]), i32(a7 + b[k + 7, n])))
        tops[group, n] = max(front, back)


@njit(inline="always")
def _step(a, p, m, b, q, k, tops, half, lowered, dest, fp32, wormhole):  # type: ignore[no-untyped-def]
    """16 products per column, of part p of row m with part q, into Dest. The two groups' additions run side by side."""
    a0, a1, a2, a3 = a[p, m, k], a[p, m, k + 1], a[p, m, k + 2], a[p, m, k + 3]
    a4, a5, a6, a7 = a[p, m, k + 4], a[p, m, k + 5], a[p, m, k + 6], a[p, m, k + 7]
    a8, a9, a10, a11 = a[p, m, k + 8], a[p, m, k + 9], a[p, m, k + 10], a[p, m, k + 11]
    a12, a13, a14, a15 = a[p, m, k + 12], a[p, m, k + 13], a[p, m, k + 14], a[p, m, k + 15]
    for n in range(COLUMNS):
        e0 = max(i32(tops[2 * half, n] - lowered), i32(0))
        e1 = max(i32(tops[2 * half + 1, n] - lowered), i32(0))
        empty0, empty1 = _empty_sum(e0, a0), _empty_sum(e1, a0)
        x, y = as_float(empty0), as_float(empty1)
        x, y = x + a0 * b[q, k, n], y + a8 * b[q, k + 8, n]
        x, y = x + a1 * b[q, k + 1, n], y + a9 * b[q, k + 9, n]
        x, y = x + a2 * b[q, k + 2, n], y + a10 * b[q, k + 10, n]
        x, y = x + a3 * b[q, k + 3, n], y + a11 * b[q, k + 11, n]
        x, y = x + a4 * b[q, k + 4, n], y + a12 * b[q, k + 12, n]
        x, y = x + a5 * b[q, k + 5, n], y + a13 * b[q, k + 13, n]
        x, y = x + a6 * b[q, k + 6, n], y + a14 * b[q, k + 14, n]
        x, y = x + a7 * b[q, k + 7, n], y + a15 * b[q, k + 15, n]
        s0 = i32(as_bits(x) - empty0) if e0 > i32(0) else i32(0)
        s1 = i32(as_bits(y) - empty1) if e1 > i32(0) else i32(0)
        dest[m, n] = add_to_dest(s0, e0, s1, e1, dest[m, n], fp32, wormhole)


@njit(inline="always")
def _multiply(a, a_exponents, a_phases, b, b_exponents, b_phases, dest, lowered, halves_first, fp32, wormhole):  # type: ignore[no-untyped-def]
    """One panel of columns of the result, in the unit's order."""
    phases, (rows, depth) = lowered.shape[0], a_exponents.shape
    tops = np.empty((4, COLUMNS), np.int32)
    for tile in range(0, depth, TILE):
        for m in range(rows):
            for group in range(4):
                _largest_exponents(a_exponents, m, b_exponents, tile + 8 * group, tops, group)
            for at in range(2 * phases):
                half, phase = (at // phases, at % phases) if halves_first else (at % 2, at // 2)
                k, below = tile + 16 * half, lowered[phase]
                _step(a, a_phases[phase], m, b, b_phases[phase], k, tops, half, below, dest, fp32, wormhole)


@compiled
def _into_fp32(a, a_exponents, a_phases, b, b_exponents, b_phases, dest, lowered, halves_first, wormhole):  # type: ignore[no-untyped-def]
    _multiply(a, a_exponents, a_phases, b, b_exponents, b_phases, dest, lowered, halves_first, True, wormhole)


@compiled
def _into_bfloat16(a, a_exponents, a_phases, b, b_exponents, b_phases, dest, lowered, halves_first, wormhole):  # type: ignore[no-untyped-def]
    _multiply(a, a_exponents, a_phases, b, b_exponents, b_phases, dest, lowered, halves_first, False, False)


class Source(NamedTuple):
    """A source register: how many fraction bits its first and second part end with, and the part of each phase."""

    first: int
    second: int
    part_of_phase: tuple[int, int, int, int]


SRC_A = Source(4, 9, (0, 1, 0, 1))
SRC_B = Source(6, 10, (0, 0, 1, 1))


def multiply_into(
    dest_MN: Tensor,
    left_MK: Tensor,
    right_KN: Tensor,
    *,
    phases: int,
    fp32_dest: bool,
    wormhole: bool,
    left_source: Source = SRC_B,
    halves_first: bool = False,
) -> None:
    """dest += left @ right, in place. `dest` is fp32 and contiguous (bfloat16 values for a bfloat16 Dest); operands
    are values of source registers, in fp32 or bfloat16.

    Per 32 of K the unit goes phase by phase over both halves, or with `halves_first` half by half over the phases.
    """
    padding = -left_MK.shape[-1] % TILE
    if padding:
        left_MK = torch.nn.functional.pad(left_MK, (0, padding))
        right_KN = torch.nn.functional.pad(right_KN, (0, 0, 0, padding))
    left, right = as_float32(left_MK), as_float32(right_KN)
    right_source = SRC_A if left_source is SRC_B else SRC_B
    exponents = [_exponents(x) for x in (left, right)]
    largest = int(exponents[0].max(initial=_EMPTY) + exponents[1].max(initial=_EMPTY)) - 127
    double = largest > _LARGEST_FOR_SINGLE
    scales = (1.0, 1.0)
    if not double:  # the smaller side takes the scale, so that it stays in range
        smaller = int(exponents[0].max(initial=_EMPTY) > exponents[1].max(initial=_EMPTY))
        scales = (_SINGLE_SCALE, 1.0) if smaller == 0 else (1.0, _SINGLE_SCALE)
    a_parts = _parts(left, exponents[0], left_source, scales[0], double)
    b_panels = _panels(_parts(right, exponents[1], right_source, scales[1] * _STRETCH, double))
    exponent_panels = _panels(exponents[1] - i32(127))
    dest = dest_MN.numpy().view(np.int32)
    dest_panels = _panels(dest)
    a_phases, b_phases = (np.array(s.part_of_phase, np.int64) for s in (left_source, right_source))
    compiled = _into_fp32 if fp32_dest else _into_bfloat16

    def job(m: int, panel: int) -> None:
        rows = slice(m, m + _ROWS)
        compiled(
            np.ascontiguousarray(a_parts[:, rows]), exponents[0][rows], a_phases, b_panels[panel],
            exponent_panels[panel], b_phases, dest_panels[panel, rows], _LOWERED[:phases], halves_first, wormhole,
        )  # fmt: skip

    jobs = [(m, panel) for panel in range(len(b_panels)) for m in range(0, dest.shape[0], _ROWS)]
    threads = torch.get_num_threads()
    if threads == 1 or len(jobs) == 1 or left.size * right.shape[1] * phases < _WORTH_A_THREAD:
        for m, panel in jobs:
            job(m, panel)
    else:
        list(_pool(threads).map(job, *zip(*jobs, strict=True)))
    dest[:] = dest_panels.swapaxes(0, 1).reshape(dest.shape[0], -1)[:, : dest.shape[1]]


def _panels(x: np.ndarray) -> np.ndarray:
    """[..., N] cut into panels of columns, each contiguous: [N / 64, ..., 64], padded with zeros."""
    padding = -x.shape[-1] % COLUMNS
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, padding)]) if padding else x
    cut = padded.reshape(*x.shape[:-1], -1, COLUMNS)
    return np.ascontiguousarray(np.moveaxis(cut, -2, 0))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="matrix-unit")


def as_float32(x: Tensor) -> np.ndarray:
    """A matrix as a C-contiguous numpy array of fp32."""
    return x.detach().to(torch.float32).contiguous().numpy()


def _exponents(x: np.ndarray) -> np.ndarray:
    """Biased exponents, those of zeros and denormals far below all others."""
    fields = (x.view(np.int32) >> 23) & 255
    return np.where(fields == 0, i32(_EMPTY), fields).astype(np.int32, copy=False)


def _parts(x: np.ndarray, exponents: np.ndarray, source: Source, scale: float, double: bool) -> np.ndarray:
    """The two parts that the phases see, times `scale`."""
    bits = x.view(np.int32)
    if double:  # exponent 255 counts as any other: fp64 has room for it
        top = exponents == 255
        bits = np.where(top, bits - i32(1 << 23), bits)
    bits = np.where(exponents < 0, i32(0), bits)
    kind = np.float64 if double else np.float32
    first, whole = (
        (bits & i32(-(1 << (23 - kept)))).view(np.float32).astype(kind, copy=False)
        for kept in (source.first, source.second)
    )
    if double:
        first, whole = np.where(top, 2 * first, first), np.where(top, 2 * whole, whole)
    return np.stack([first * kind(scale), (whole - first) * kind(scale)])
