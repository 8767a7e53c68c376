# SPDX-License-Identifier: Apache-2.0
"""Block formats on CPUs as compiled loops: groups of 16 fp32 words into the values they stand for, or bytes of tiles.

A chunk of groups goes through a few simple loops over 32-bit numbers, which the compiler turns into vector
instructions. A word is aligned to its group by scaling it with a power of two, which is exact, and cut by a conversion.
Groups that hold an infinity or NaN, or only numbers next to the denormals, go through plain integers instead.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# How a group is encoded: by the host, or by the chip's packer, which rounds to 6 fraction bits first unless precise.
HOST, DEVICE, PRECISE = 0, 1, 2
GROUP, FACE, TILE = 16, 16, 32
FACE_ROWS = TILE * TILE // FACE
_CHUNK = 64  # groups at a time: the passes over one chunk stay in the first-level cache

_i32, _f32 = np.int32, np.float32
_SIZE, _HALF_WORD, _EVEN_HALF_WORD = _i32(0x7FFFFFFF), _i32(0x7FFF0000), _i32(0x7FFE0000)
_NORMAL, _INFINITE, _SIGN, _SIGN_OF_HALF = _i32(0x800000), _i32(0x7F800000), _i32(0x80), _i32(0x8000)
_NAN_OF_HALF = _i32(0x7FC0)

_compiled = njit(nogil=True, cache=True, error_model="numpy")
_piece = njit(nogil=True, error_model="numpy")

_FIELDS = np.arange(256)
_LEAST, _MOST = 24, 254  # exponent fields whose groups are scaled within the range of fp32
# x·_SCALES[E] is x in units of 2^(E − 127 − 23).
_SCALES = np.ldexp(1.0, np.minimum(150 - _FIELDS, 126)).astype(np.float32)
_STEPS = {bits: np.ldexp(1.0, _FIELDS - 127 - (bits - 1)).astype(np.float32) for bits in (7, 3)}


@_piece
def _sizes(words, mode, bits):  # type: ignore[no-untyped-def]
    """The words without signs and denormals, as the packer rounds them beforehand."""
    if mode == HOST:
        for i in range(words.size):
            word = _i32(words[i] & _SIZE)
            bits[i] = word if word >= _NORMAL else _i32(0)
    elif mode == PRECISE:
        for i in range(words.size):
            word = _i32(words[i] & _HALF_WORD)
            bits[i] = word if word >= _NORMAL else _i32(0)
    else:
        for i in range(words.size):
            word = min(_i32(words[i] & _HALF_WORD), _INFINITE)
            bits[i] = _i32(_i32((word if word >= _NORMAL else _i32(0)) + _i32(0x10000)) & _EVEN_HALF_WORD)


@_piece
def _share(bits_G16, scales, shared, scale_of):  # type: ignore[no-untyped-def]
    """The largest exponent of each group, and its scale beside every element; whether any group needs integers."""
    special = False
    for g in range(bits_G16.shape[0]):
        largest = _i32(0)
        for j in range(GROUP):
            largest = max(largest, bits_G16[g, j])
        field = largest >> 23
        shared[g] = field
        special |= (field > _MOST) | ((field > 0) & (field < _LEAST))
        scale = scales[field]
        for j in range(GROUP):
            scale_of[g, j] = scale
    return special


@_piece
def _round(floats, scale_of, mode, magnitude_bits, codes):  # type: ignore[no-untyped-def]
    """The codes of what `_sizes` left, without signs: on the host ties to even, on the chip away from zero."""
    if mode != HOST:
        for i in range(floats.size):
            code = _i32(floats[i] * scale_of[i] * _f32(0.5**17) + _f32(0.5))
            codes[i] = min(code, _i32(127))
        if magnitude_bits < 7:
            for i in range(floats.size):
                codes[i] = _i32(codes[i] >> 4)
    elif magnitude_bits == 7:
        for i in range(floats.size):
            aligned = _i32(floats[i] * scale_of[i])
            odd = _i32(_i32(aligned >> 17) & _i32(1))
            codes[i] = min(_i32(_i32(aligned + _i32(0xFFFF) + odd) >> 17), _i32(127))
    else:
        for i in range(floats.size):
            aligned = _i32(floats[i] * scale_of[i])
            odd = _i32(_i32(aligned >> 21) & _i32(1))
            codes[i] = min(_i32(_i32(aligned + _i32(0xFFFFF) + odd) >> 21), _i32(7))


@njit
def _round_special(words, mode, magnitude_bits, codes):  # type: ignore[no-untyped-def]
    """Codes of one group with an exponent field of 255, by integers; on the chip its NaN count as infinities."""
    shared = 0
    for j in range(GROUP):
        word = words[j] & 0x7FFFFFFF
        if mode != HOST:
            word = min(word & 0x7FFF0000, 0x7F800000)
        if mode == DEVICE and word >= 0x800000:
            word = (word + 0x10000) & 0x7FFE0000
        shared = max(shared, word >> 23)
        codes[j] = word
    for j in range(GROUP):
        exponent = codes[j] >> 23
        significand = ((codes[j] & 0x7FFFFF) | 0x800000) if exponent > 0 else 0
        shift = min(shared - exponent, 31)
        if mode == HOST:
            aligned, drop = significand >> shift, 24 - magnitude_bits
            code = (aligned + (1 << (drop - 1)) - 1 + ((aligned >> drop) & 1)) >> drop
            codes[j] = min(code, (1 << magnitude_bits) - 1)
        else:
            codes[j] = min(((significand >> 16) + (1 << shift)) >> (shift + 1), 127) >> (7 - magnitude_bits)
    return shared


@_piece
def _encode(words, scales, mode, magnitude_bits, bits, floats, shared, scale_of, codes):  # type: ignore[no-untyped-def]
    """Exponents and codes of a chunk; `bits` and `floats` are the same memory."""
    _sizes(words, mode, bits)
    special = _share(bits.reshape(-1, GROUP), scales, shared, scale_of.reshape(-1, GROUP))
    _round(floats, scale_of, mode, magnitude_bits, codes)
    if special:
        for g in range(words.size // GROUP):
            if shared[g] > _MOST or 0 < shared[g] < _LEAST:
                group = slice(g * GROUP, (g + 1) * GROUP)
                shared[g] = _round_special(words[group], mode, magnitude_bits, codes[group])


@_compiled
def _values_of(words, scales, steps, mode, magnitude_bits, out):  # type: ignore[no-untyped-def]
    all_floats, all_scales = np.empty(_CHUNK * GROUP, np.float32), np.empty(_CHUNK * GROUP, np.float32)
    all_bits, all_codes = all_floats.view(np.int32), np.empty(_CHUNK * GROUP, np.int32)
    shared = np.empty(_CHUNK, np.int32)
    for start in range(0, words.size, _CHUNK * GROUP):
        size = min(_CHUNK * GROUP, words.size - start)
        chunk, target = words[start : start + size], out[start : start + size]
        floats, bits, codes, scale_of = all_floats[:size], all_bits[:size], all_codes[:size], all_scales[:size]
        _encode(chunk, scales, mode, magnitude_bits, bits, floats, shared, scale_of, codes)
        step_of = scale_of.reshape(-1, GROUP)
        for g in range(size // GROUP):
            step = steps[shared[g]]
            for j in range(GROUP):
                step_of[g, j] = step
        for i in range(size):
            floats[i] = _f32(codes[i]) * scale_of[i]
        for i in range(size):
            sign = _i32(_i32(chunk[i] >> 16) & _SIGN_OF_HALF)
            half = _i32(_i32(bits[i] >> 16) | sign)
            target[i] = np.int16(half if codes[i] != 0 else _i32(0))
        infinite = _i32(1 << (magnitude_bits - 1))
        for g in range(size // GROUP):
            if shared[g] == 255:  # at the exponent of infinity, a code beyond it is a NaN
                for i in range(g * GROUP, (g + 1) * GROUP):
                    if codes[i] > infinite:
                        target[i] = np.int16(_NAN_OF_HALF)


@_compiled
def _tiles_of(words, groups_per_row, scales, mode, magnitude_bits, out):  # type: ignore[no-untyped-def]
    """Into rows of 16 codes: those that hold the exponents of a tile, then a row per group."""
    all_floats, all_scales = np.empty(_CHUNK * GROUP, np.float32), np.empty(_CHUNK * GROUP, np.float32)
    all_bits, all_codes = all_floats.view(np.int32), np.empty(_CHUNK * GROUP, np.int32)
    all_bytes = np.empty(_CHUNK * GROUP, np.uint8)
    shared = np.empty(_CHUNK, np.int32)
    width = out.shape[1]
    exponent_rows = FACE_ROWS // width
    rows_per_tile = exponent_rows + FACE_ROWS
    for row in range(words.size // GROUP // groups_per_row):
        for first in range(0, groups_per_row, _CHUNK):
            size = min(_CHUNK, groups_per_row - first) * GROUP
            start = (row * groups_per_row + first) * GROUP
            chunk = words[start : start + size]
            floats, bits, codes, scale_of = all_floats[:size], all_bits[:size], all_codes[:size], all_scales[:size]
            _encode(chunk, scales, mode, magnitude_bits, bits, floats, shared, scale_of, codes)
            if magnitude_bits == 7:
                for i in range(size):
                    signed = _i32(codes[i] | _i32(_i32(chunk[i] >> 24) & _SIGN))
                    all_bytes[i] = np.uint8(signed if codes[i] != 0 else _i32(0))
            else:
                for i in range(size):
                    signed = _i32(codes[i] | _i32(_i32(chunk[i] >> 28) & _i32(8)))
                    codes[i] = signed if codes[i] != 0 else _i32(0)
                for i in range(size // 2):
                    all_bytes[i] = np.uint8(codes[2 * i] | _i32(codes[2 * i + 1] << 4))
            packed = all_bytes[: size * width // GROUP].reshape(-1, width)
            first_tile = row // TILE * (groups_per_row // 2)
            face_row = (row % TILE) // FACE * 2 * FACE + row % FACE
            for g in range(size // GROUP):
                tile, place = first_tile + (first + g) // 2, face_row + (first + g) % 2 * FACE
                out[tile * rows_per_tile + place // width, place % width] = shared[g]
                for j in range(width):
                    out[tile * rows_per_tile + exponent_rows + place, j] = packed[g, j]


def values_into(out: np.ndarray, words: np.ndarray, mode: int, magnitude_bits: int) -> None:
    """The bfloat16 patterns, int16, of what as many fp32 words (int32, whole groups) become in a block format."""
    _values_of(words.reshape(-1), _SCALES, _STEPS[magnitude_bits], mode, magnitude_bits, out.reshape(-1))


def tile_bytes(magnitude_bits: int) -> int:
    """The size of a tile: its exponents and its codes."""
    return FACE_ROWS + TILE * TILE * (magnitude_bits + 1) // 8


def tiles_into(out: np.ndarray, words: np.ndarray, mode: int, magnitude_bits: int) -> None:
    """The bytes of tiles, a row of `out` each, of fp32 words [rows, columns] whose sizes are multiples of 32."""
    rows_of_codes = out.reshape(-1, GROUP * (magnitude_bits + 1) // 8)
    _tiles_of(words.reshape(-1), words.shape[1] // GROUP, _SCALES, mode, magnitude_bits, rows_of_codes)
