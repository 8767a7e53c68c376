# SPDX-License-Identifier: Apache-2.0
"""The matrix unit bit by bit, compiled: each multiply step of a product in the chip's order, Dest rounded after each.

A step multiplies 16 pairs of operand parts (5 bits from SrcA, 7 from SrcB; see fpu.py for the phases) in two groups of
8. A group aligns its products to the largest exponent of its operands, rounds them there to 10 bits with ties away
from zero and adds them up; both group sums are then added to Dest, which rounds as `add_to_dest` says. Wide products
into a bfloat16 Dest go through quicker loops, bfloat16_dest.py, wherever exponents allow.

Rounding to a given bit is what a float adder does anyway: products are added to a number so large that its last bit has
the weight wanted. Each operand part of one side is stretched by 2⁻¹³ first, which carries a product over a tie and over
nothing else, for products have 12 bits. The sum of a group is then the difference of two bit patterns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor

from tttdebug.emulator.engines import bfloat16_dest
from tttdebug.emulator.engines.compiled_jobs import run_jobs
from tttdebug.emulator.engines.dest_register import (
    add_to_dest,
    as_bits,
    as_float,
    compiled,
    i32,
    pattern_of,
    shift_left,
    shift_right,
    use_the_widest_vectors,
)

# M rows of the left operand, K summed, N columns of the right one

TILE = 32
COLUMNS, ROWS = 64, 32  # of the result that one job computes: its operands stay in the first-level cache
_EMPTY = -100_000  # the exponent of a zero: it never is the largest of a group
_LOWERED = np.array([0, 5, 7, 12], dtype=np.int32)  # how far below the operands' exponents each phase lies
_STRETCH = 1 + 2.0**-13
WIDE = bfloat16_dest.COLUMNS  # columns of a panel whose Dest is bfloat16, while more than `COLUMNS` are left
_WORTH_A_JOB = 1 << 21  # multiplications
_SINGLE, _DOUBLE = np.ones(1, np.float32), np.ones(1, np.float64)  # the float that group sums are kept in


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
    if dest_MN.is_cuda:
        from tttdebug.emulator.engines import matrix_unit_gpu  # triton is imported when it is needed

        return matrix_unit_gpu.multiply_into(
            dest_MN, left_MK, right_KN, phases=phases, fp32_dest=fp32_dest, wormhole=wormhole,
            left_is_source_a=left_source is SRC_A, halves_first=halves_first,
        )  # fmt: skip
    left, right = _bits(left_MK.to(torch.float32)), _bits(right_KN)
    dest, lowered = dest_MN.numpy().view(np.int32), _LOWERED[:phases]
    right_source = SRC_A if left_source is SRC_B else SRC_B
    sources = np.array([left_source.first, left_source.second, right_source.first, right_source.second], np.int32)
    parts = np.array([left_source.part_of_phase, right_source.part_of_phase], np.int64)
    loops = _into_fp32 if fp32_dest else _into_bfloat16

    def multiply_any(m: int, n: int, end: int) -> None:
        settings = (sources, parts, lowered, halves_first, wormhole)
        while n < end:
            n = loops(left, right, dest, m, n, end, *settings, _SINGLE)
            if n < end:  # where it stopped, a larger float is needed
                n = loops(left, right, dest, m, n, min(n + COLUMNS, end), *settings, _DOUBLE)

    def job(block: tuple[int, int, int]) -> None:
        m, n, end = block
        rest = (end - n) % WIDE
        wide_end = n if fp32_dest else end - (rest if rest <= COLUMNS else 0)
        while n < wide_end:
            settings = (min(ROWS, rows - m), n, wide_end, sources, parts, lowered, halves_first)
            n = bfloat16_dest.multiply(left, right, dest, m, *settings)
            if n < wide_end:
                multiply_any(m, n, min(n + WIDE, wide_end))
                n += WIDE
        multiply_any(m, n, end)

    rows, columns = dest.shape
    panels = -(-_WORTH_A_JOB // (min(rows, ROWS) * left.shape[1] * phases * WIDE)) * WIDE
    starts = [(m, n) for n in range(0, columns, panels) for m in range(0, rows, ROWS)]
    run_jobs(job, [(m, n, min(n + panels, columns)) for m, n in starts])
    return None


def _bits(x: Tensor) -> np.ndarray:
    """The patterns of a matrix in row-major order, int16 of bfloat16 and int32 of fp32."""
    return x.detach().contiguous().view(torch.int16 if x.dtype == torch.bfloat16 else torch.int32).numpy()


# A group sum is kept in a float of one of two sizes. Its exponent is the operands' with a bias that makes the last
# fraction bit weigh 2^(e − 127 − 10). In single precision the left operand is scaled up, to stay clear of denormals;
# exponents that do not fit then need double precision, where infinity's is one like any other, as on the chip.
_SCALES = {types.float32: 64, types.float64: 0}
_BIASES = {types.float32: 13 + _SCALES[types.float32], types.float64: 42 + 1023 - 127}
_LARGEST_SUM = 253 - _BIASES[types.float32]
_LARGEST_LEFT = 253 - _SCALES[types.float32]


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


@intrinsic
def _value(context: Any, bits: Any, like: Any) -> Any:
    """What an fp32 pattern stands for in the type of `like`, an exponent of 255 being one like any other."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if like == types.float32:
            return builder.bitcast(args[0], context.get_value_type(types.float32))
        kind = context.get_value_type(types.int64)
        wide = builder.zext(args[0], kind)
        sign = builder.shl(builder.and_(wide, kind(1 << 31)), kind(32))
        magnitude = builder.shl(builder.and_(wide, kind((1 << 31) - 1)), kind(29))
        moved = builder.add(magnitude, kind((1023 - 127) << 52))
        return builder.bitcast(builder.or_(sign, moved), context.get_value_type(types.float64))

    return like(bits, like), generate


@intrinsic
def _scale(context: Any, like: Any) -> Any:
    """The factor of the left operand."""
    return like(like), lambda c, builder, signature, args: c.get_value_type(like)(2.0 ** _SCALES[like])


@njit(inline="always")
def _unpack(bits, row, column, parts, exponents, first, second, factor, shift, like):  # type: ignore[no-untyped-def]
    """A tile of a matrix: the two parts of each element times `factor` and its exponent minus `shift`, with zeros
    beyond the matrix's end. Returns the largest exponent."""
    rows, columns = exponents.shape
    height, width = min(rows, bits.shape[0] - row), min(columns, bits.shape[1] - column)
    if height < rows or width < columns:
        parts[:], exponents[:] = like * 0, i32(_EMPTY)
    mask_first, mask_second = shift_left(i32(-1), i32(23 - first)), shift_left(i32(-1), i32(23 - second))
    largest = i32(_EMPTY)
    for r in range(height):
        for c in range(width):
            pattern = pattern_of(bits[row + r, column + c])
            exponent = i32(shift_right(pattern, i32(23)) & i32(255))
            lives = exponent != i32(0)
            head = _value(i32(pattern & mask_first), like)
            whole = _value(i32(pattern & mask_second), like)
            parts[0, r, c] = head * factor if lives else like * 0
            parts[1, r, c] = (whole - head) * factor if lives else like * 0
            exponents[r, c] = i32(exponent - shift) if lives else i32(_EMPTY)
            largest = max(largest, exponent)
    return largest


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
def _multiply(a, b, dest, m0, n0, sources, part_of_phase, lowered, halves_first, fp32, wormhole, like):  # type: ignore[no-untyped-def]
    """A block of the result, from row m0 and column n0 on. False, with nothing done, if it needs a larger float."""
    rows, columns = min(ROWS, dest.shape[0] - m0), min(COLUMNS, dest.shape[1] - n0)
    a_parts, a_exponents = np.empty((2, rows, TILE), like.dtype), np.empty((rows, TILE), np.int32)
    b_parts, b_exponents = np.empty((2, TILE, COLUMNS), like.dtype), np.empty((TILE, COLUMNS), np.int32)
    tops, sums = np.empty((4, COLUMNS), np.int32), np.zeros((rows, COLUMNS), np.int32)
    sums[:, :columns] = dest[m0 : m0 + rows, n0 : n0 + columns]
    one, phases = like[0], lowered.shape[0]
    a_first, a_second, b_first, b_second = sources[0], sources[1], sources[2], sources[3]
    for tile in range(0, a.shape[1], TILE):
        left = _unpack(a, m0, tile, a_parts, a_exponents, a_first, a_second, _scale(one), i32(0), one)
        right = _unpack(b, tile, n0, b_parts, b_exponents, b_first, b_second, one * _STRETCH, i32(127), one)
        if like.itemsize == 4 and (left > _LARGEST_LEFT or left + right - 127 > _LARGEST_SUM):
            return False
        for m in range(rows):
            for group in range(4):
                _largest_exponents(a_exponents, m, b_exponents, 8 * group, tops, group)
            for at in range(2 * phases):
                half, phase = (at // phases, at % phases) if halves_first else (at % 2, at // 2)
                p, q = part_of_phase[0, phase], part_of_phase[1, phase]
                _step(a_parts, p, m, b_parts, q, 16 * half, tops, half, lowered[phase], sums, fp32, wormhole)
    dest[m0 : m0 + rows, n0 : n0 + columns] = sums[:, :columns]
    return True


@compiled
def _into_fp32(a, b, dest, m0, n0, end, sources, part_of_phase, lowered, halves_first, wormhole, like):  # type: ignore[no-untyped-def]
    """Panels of columns from n0 to `end`. Gives the first that was not done for want of a larger float, else `end`."""
    use_the_widest_vectors()
    for n in range(n0, end, COLUMNS):
        if not _multiply(a, b, dest, m0, n, sources, part_of_phase, lowered, halves_first, True, wormhole, like):
            return n
    return end


@compiled
def _into_bfloat16(a, b, dest, m0, n0, end, sources, part_of_phase, lowered, halves_first, wormhole, like):  # type: ignore[no-untyped-def]
    use_the_widest_vectors()
    for n in range(n0, end, COLUMNS):
        if not _multiply(a, b, dest, m0, n, sources, part_of_phase, lowered, halves_first, False, False, like):
            return n
    return end
