# SPDX-License-Identifier: Apache-2.0
"""Products into a bfloat16 Dest with the arithmetic of floats alone, where no exponent is near either end of its range.

The bits are those of matrix_unit.py and dest_register.py. Here g is the weight of the last bit that Dest aligns to,
2⁻¹⁰ of the largest exponent, and u that of a group's sum. Dest and both group sums are added to 1.5·2²³·g one after the
other, which rounds each to whole g, and the number is taken off again.

Ties come out as on the chip because there are none: Dest, which has 8 bits, is stretched by 2⁻¹³ (ties away from zero),
and a group sum, s whole u, is raised by a little. Dest rounds s first to 2⁻¹³·g and then to g, ties up, which is
⌊s·u/g + ½ + 2⁻¹⁴⌋. With u ≥ 2⁻¹³·g nothing lies between that bound and the tie, and any raise below u does; it is ⅜·u.
With u = 2⁻¹⁴·g it must lie between 1 and 2 u, with 2⁻¹⁵·g between 2 and 3 u, which 1.25·2⁻¹⁴·g does; with less the sum,
below 2¹⁵·u, comes to nothing. So the raise is the larger one of the two.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.engines.dest_register import (
    as_bits,
    as_float,
    compiled,
    i32,
    pattern_of,
    shift_left,
    shift_right,
    use_the_widest_vectors,
)

COLUMNS = 128  # of the result that are computed at a time
_i16, _u64, _f32 = np.int16, np.uint64, np.float32

# Left operands and Dest are scaled by 2⁶⁴. A group whose largest exponent is e starts from 1.5·2²³·u, its field e + 77.
_SCALE_BITS, _FIELD = 64, 77
_SCALE, _STRETCH = _f32(2.0**_SCALE_BITS), _f32(1 + 2.0**-13)
_EXPONENT = i32(0x7F800000)
_LARGEST_LEFT, _LARGEST_RIGHT, _LARGEST_PRODUCT, _LARGEST_DEST = 189, 254, 150, 160
# From these exponents on nothing falls below the range, and a group of zeros may count as one of exponent 13.
_SAFE_PRODUCT, _SAFE_DEST = 36, 13
_START, _SAFE_START = (
    _FIELD << 7 | 1 << 6,
    _FIELD + 13 << 7 | 1 << 6,
)  # of groups of zeros: the upper halves of patterns
_OFFSET = (_FIELD - 127 << 7) + (1 << 6)  # from the exponents of both operands to what their product starts from
_ZERO = _i16(-(1 << 14))  # the exponent of a zero there: any sum with it lies below them, that of two does not wrap
_TO_START = i32((_FIELD - _SCALE_BITS << 23) + (1 << 22))  # from a scaled Dest's exponent to the pattern of 1.5·2²³·g
_TO_SMALL_RAISE = i32(25 << 23)  # from 1.5·2²³·u to 0.375·u
_TO_RAISE = i32((37 << 23) + (1 << 21))  # from 1.5·2²³·g to 1.25·2⁻¹⁴·g


@njit(inline="always")
def _unpack(bits, row, column, parts, exponents, first, second, factor, offset):  # type: ignore[no-untyped-def]
    """A tile of a matrix: the two parts of each element times `factor` and its exponent, with `offset`, as the upper
    half of a pattern; zeros beyond the matrix's end. Returns the smallest and the largest exponent of no zero."""
    rows, columns = exponents.shape
    height, width = min(rows, bits.shape[0] - row), min(columns, bits.shape[1] - column)
    if height < rows or width < columns:
        parts[:], exponents[:] = _f32(0), _ZERO
    mask_first, mask_second = shift_left(i32(-1), i32(23 - first)), shift_left(i32(-1), i32(23 - second))
    smallest, largest = i32(255), i32(0)
    for r in range(height):
        for c in range(width):
            pattern = pattern_of(bits[_u64(row) + _u64(r), _u64(column) + _u64(c)])
            exponent = i32(shift_right(pattern, i32(23)) & i32(255))
            lives = exponent != i32(0)
            head, whole = as_float(i32(pattern & mask_first)), as_float(i32(pattern & mask_second))
            parts[0, r, c] = head * factor if lives else _f32(0)
            parts[1, r, c] = (whole - head) * factor if lives else _f32(0)
            exponents[r, c] = _i16(i32(shift_left(exponent, i32(7)) + offset)) if lives else _ZERO
            largest = max(largest, exponent)
            smallest = min(smallest, exponent if lives else i32(255))
    return smallest, largest


@njit(inline="always")
def _starts(a, m, b, k, halves, tops, group, start):  # type: ignore[no-untyped-def]
    """For row m of a and the 8 from k on: per column what their sum starts from."""
    a0, a1, a2, a3, a4, a5, a6, a7 = (
        a[m, k], a[m, k + 1], a[m, k + 2], a[m, k + 3], a[m, k + 4], a[m, k + 5], a[m, k + 6], a[m, k + 7],
    )  # fmt: skip
    for n in range(COLUMNS):
        front = max(
            max(_i16(a0 + b[k, n]), _i16(a1 + b[k + 1, n])), max(_i16(a2 + b[k + 2, n]), _i16(a3 + b[k + 3, n]))
        )
        back = max(
            max(_i16(a4 + b[k + 4, n]), _i16(a5 + b[k + 5, n])), max(_i16(a6 + b[k + 6, n]), _i16(a7 + b[k + 7, n]))
        )
        halves[n] = max(max(front, back), start)
    for n in range(COLUMNS):
        tops[group, n] = shift_left(i32(halves[n]), i32(16))


@njit(inline="always")
def _step(a, p, m, b, q, k, tops, group, lowered, dest, safe):  # type: ignore[no-untyped-def]
    """16 products per column, of part p of row m with part q, into Dest. The two groups' additions run side by side."""
    a0, a1, a2, a3 = a[p, m, k], a[p, m, k + _u64(1)], a[p, m, k + _u64(2)], a[p, m, k + _u64(3)]
    a4, a5, a6, a7 = a[p, m, k + _u64(4)], a[p, m, k + _u64(5)], a[p, m, k + _u64(6)], a[p, m, k + _u64(7)]
    a8, a9, a10, a11 = a[p, m, k + _u64(8)], a[p, m, k + _u64(9)], a[p, m, k + _u64(10)], a[p, m, k + _u64(11)]
    a12, a13, a14, a15 = a[p, m, k + _u64(12)], a[p, m, k + _u64(13)], a[p, m, k + _u64(14)], a[p, m, k + _u64(15)]
    least = i32(_START << 16)
    for n in range(COLUMNS):
        empty0, empty1 = i32(tops[group, n] - lowered), i32(tops[group + _u64(1), n] - lowered)
        if not safe:
            empty0, empty1 = max(empty0, least), max(empty1, least)
        x, y = as_float(empty0), as_float(empty1)
        x, y = x + a0 * b[q, k, n], y + a8 * b[q, k + _u64(8), n]
        x, y = x + a1 * b[q, k + _u64(1), n], y + a9 * b[q, k + _u64(9), n]
        x, y = x + a2 * b[q, k + _u64(2), n], y + a10 * b[q, k + _u64(10), n]
        x, y = x + a3 * b[q, k + _u64(3), n], y + a11 * b[q, k + _u64(11), n]
        x, y = x + a4 * b[q, k + _u64(4), n], y + a12 * b[q, k + _u64(12), n]
        x, y = x + a5 * b[q, k + _u64(5), n], y + a13 * b[q, k + _u64(13), n]
        x, y = x + a6 * b[q, k + _u64(6), n], y + a14 * b[q, k + _u64(14), n]
        x, y = x + a7 * b[q, k + _u64(7), n], y + a15 * b[q, k + _u64(15), n]
        s0, s1 = x - as_float(empty0), y - as_float(empty1)
        if not safe:
            s0, s1 = s0 if empty0 > least else _f32(0), s1 if empty1 > least else _f32(0)
        old = dest[m, n]
        top = max(max(empty0, empty1), i32(i32(as_bits(old) & _EXPONENT) + _TO_START))
        rounder, raised = as_float(top), i32(top - _TO_RAISE)
        s0 = s0 + as_float(max(i32(empty0 - _TO_SMALL_RAISE), raised))
        s1 = s1 + as_float(max(i32(empty1 - _TO_SMALL_RAISE), raised))
        total = old * _STRETCH + rounder + s0 + s1 - rounder
        new = i32(i32(as_bits(total) + i32(0x8000)) & i32(-0x10000))
        if not safe:
            new = new if i32(new & _EXPONENT) > i32(_SCALE_BITS << 23) else i32(0)
        dest[m, n] = as_float(new)


@njit(inline="always")
def _range(dest):  # type: ignore[no-untyped-def]
    """The smallest exponent of a scaled Dest that is not zero, and the largest."""
    smallest, largest = i32(_EXPONENT), i32(0)
    for m in range(dest.shape[0]):
        for n in range(COLUMNS):
            exponent = i32(as_bits(dest[m, n]) & _EXPONENT)
            largest = max(largest, exponent)
            smallest = min(smallest, exponent if exponent != i32(0) else i32(_EXPONENT))
    return i32(smallest >> 23) - _SCALE_BITS, i32(largest >> 23) - _SCALE_BITS


@njit(inline="always")
def _tile(a_parts, a_exponents, b_parts, b_exponents, how, room, dest, safe):  # type: ignore[no-untyped-def]
    """32 of K into every row of a block of Dest."""
    part_of_phase, lowered, halves_first = how
    halves, tops = room
    phases, start = lowered.shape[0], _i16(_SAFE_START if safe else _START)
    for m in range(dest.shape[0]):
        for group in range(4):
            _starts(a_exponents, m, b_exponents, 8 * group, halves, tops, group, start)
        for at in range(2 * phases):
            half, phase = (at // phases, at % phases) if halves_first else (at % 2, at // 2)
            p, q, half = _u64(part_of_phase[0, phase]), _u64(part_of_phase[1, phase]), _u64(half)
            below = shift_left(lowered[phase], i32(23))
            _step(a_parts, p, _u64(m), b_parts, q, half << _u64(4), tops, half << _u64(1), below, dest, safe)


@njit(inline="always")
def _multiply(a, b, dest, m0, rows, n0, sources, part_of_phase, lowered, halves_first):  # type: ignore[no-untyped-def]
    """A block of the result, from row m0 and column n0 on. False, with nothing done, if an exponent is too large."""
    columns = min(COLUMNS, dest.shape[1] - n0)
    a_parts, a_exponents = np.empty((2, rows, TILE), np.float32), np.empty((rows, TILE), np.int16)
    b_parts, b_exponents = np.empty((2, TILE, COLUMNS), np.float32), np.empty((TILE, COLUMNS), np.int16)
    halves, tops = np.empty(COLUMNS, np.int16), np.empty((4, COLUMNS), np.int32)
    sums = np.zeros((rows, COLUMNS), np.float32)
    for m in range(rows):
        for n in range(columns):
            bits = dest[m0 + m, n0 + n]
            if i32(bits & _EXPONENT) > i32(_LARGEST_DEST << 23):
                return False
            sums[m, n] = as_float(bits) * _SCALE if i32(bits & _EXPONENT) != i32(0) else _f32(0)
    a_first, a_second, b_first, b_second = sources[0], sources[1], sources[2], sources[3]
    for tile in range(0, a.shape[1], TILE):
        a_low, a_high = _unpack(a, m0, tile, a_parts, a_exponents, a_first, a_second, _SCALE, i32(0))
        b_low, b_high = _unpack(b, tile, n0, b_parts, b_exponents, b_first, b_second, _STRETCH, i32(_OFFSET))
        low, high = _range(sums)
        if a_high > _LARGEST_LEFT or b_high > _LARGEST_RIGHT or high > _LARGEST_DEST:
            return False
        if a_high + b_high - 127 > _LARGEST_PRODUCT:
            return False
        how, room = (part_of_phase, lowered, halves_first), (halves, tops)
        if a_low + b_low - 127 >= _SAFE_PRODUCT and low >= _SAFE_DEST:
            _tile(a_parts, a_exponents, b_parts, b_exponents, how, room, sums, True)
        else:
            _tile(a_parts, a_exponents, b_parts, b_exponents, how, room, sums, False)
    for m in range(rows):
        for n in range(columns):
            dest[m0 + m, n0 + n] = as_bits(sums[m, n] * (_f32(1) / _SCALE))
    return True


@compiled
def multiply(a, b, dest, m0, rows, n0, end, sources, part_of_phase, lowered, halves_first):  # type: ignore[no-untyped-def]
    """Panels of columns from n0 to `end`. Gives the first that was not done for its large exponents, else `end`."""
    use_the_widest_vectors()
    for n in range(n0, end, COLUMNS):
        if not _multiply(a, b, dest, m0, rows, n, sources, part_of_phase, lowered, halves_first):
            return n
    return end
