# SPDX-License-Identifier: Apache-2.0
"""Dest, the register that the matrix unit adds into, as compiled integer arithmetic.

These are pieces of compiled loops. They work in 32 bits throughout, where numba's own operators would widen to 64, so
that the compiler turns a loop around them into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

i32 = np.int32


def _reinterpreted(**kinds: Any) -> Any:
    """An intrinsic that takes the bits of one type for another of the same size."""

    @intrinsic
    def reinterpret(context: Any, value: Any) -> Any:
        kind = kinds[str(value)]
        return kind(value), lambda c, builder, signature, args: builder.bitcast(args[0], c.get_value_type(kind))

    return reinterpret


as_float = _reinterpreted(int32=types.float32, int64=types.float64)
as_bits = _reinterpreted(float32=types.int32, float64=types.int64)


def _shift(name: str) -> Any:
    """An intrinsic that shifts in the width of its argument; numba's own operators widen to 64 bits."""

    @intrinsic
    def shift(context: Any, value: Any, by: Any) -> Any:
        return value(value, value), lambda c, builder, signature, args: getattr(builder, name)(*args)

    return shift


shift_left, shift_right = _shift("shl"), _shift("ashr")


@intrinsic
def pattern_of(context: Any, bits: Any) -> Any:
    """The fp32 pattern of one that is given as it is, or as the upper half of it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if bits == types.int32:
            return args[0]
        kind = context.get_value_type(types.int32)
        return builder.shl(builder.zext(args[0], kind), kind(16))

    return types.int32(bits), generate


@njit(inline="always")
def _rounded_right(value, by):  # type: ignore[no-untyped-def]
    """value / 2^by to the nearest integer, ties up."""
    return shift_right(i32(value + shift_right(shift_left(i32(1), by), i32(1))), by)


@njit(inline="always")
def add_to_dest(s0, e0, s1, e1, dest, fp32, wormhole):  # type: ignore[no-untyped-def]
    """Two group sums (units of 2^(e − 127 − 10)) added to a Dest value, all as int32; the new fp32 pattern.

    All are aligned to 23 bits below the largest exponent, the sums with ties up and Dest with ties away from zero; a
    bfloat16 Dest rounds them there once more to 10 bits. What is added up is rounded to 24 significant bits, or 8, with
    ties away. Wormhole's adder takes a sum of −1 for one 27 binades up.
    """
    e_dest = i32(shift_right(dest, i32(23)) & i32(255))
    m_dest = i32((dest & i32(0x7FFFFF)) | i32(0x800000)) if e_dest > i32(0) else i32(0)
    top = max(max(e0, e1), e_dest)
    m0 = _rounded_right(shift_left(s0, i32(13)), min(i32(top - e0), i32(30)))
    m1 = _rounded_right(shift_left(s1, i32(13)), min(i32(top - e1), i32(30)))
    m_dest = _rounded_right(m_dest, min(i32(top - e_dest), i32(30)))
    if not fp32:
        m0, m1 = i32(i32(m0 + i32(4096)) & i32(-8192)), i32(i32(m1 + i32(4096)) & i32(-8192))
        m_dest = i32(i32(m_dest + i32(4096)) & i32(-8192))
    sign_dest = shift_right(dest, i32(31))
    total = i32(m0 + m1 + i32(i32(m_dest ^ sign_dest) - sign_dest))
    sign = shift_right(total, i32(31))
    magnitude = i32(i32(total ^ sign) - sign)
    # The place of the highest bit, from a float of it and of no neighbour that would round up.
    rounded_down = np.float32(i32(magnitude & ~shift_right(magnitude, i32(1))))
    highest = i32(shift_right(as_bits(rounded_down), i32(23)) - i32(127))
    exponent = i32(top + highest - i32(23))
    if fp32:
        up = i32(max(i32(i32(23) - highest), i32(0)) & i32(31))
        significand = shift_left(_rounded_right(magnitude, max(i32(highest - i32(23)), i32(0))), up)
        fault = wormhole & (total == i32(-1))
        exponent = i32(exponent + i32(27)) if fault else exponent
        significand = i32(0x800000) if fault else significand
    else:
        significand = shift_left(_rounded_right(magnitude, max(i32(highest - i32(7)), i32(0))), i32(16))
    exponent = i32(exponent + shift_right(significand, i32(23)) - i32(1))
    finite = i32(shift_left(exponent, i32(23)) | i32(significand & i32(0x7FFFFF)))
    value = finite if exponent < i32(255) else i32(0x7F800000)
    lives = (magnitude != i32(0)) & (top > i32(0)) & (exponent > i32(0))
    return i32(value | i32(sign & i32(-0x80000000))) if lives else i32(0)


@intrinsic
def use_the_widest_vectors(context: Any) -> Any:
    """Marks the function it is called in, where LLVM by itself takes vectors of half the width of AVX-512's."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # llvmlite's own `add` knows a few attributes only
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


# Contracting a·b + c to one rounding is allowed: the loops have no product for which it makes a difference.
compiled = njit(nogil=True, fastmath={"contract"}, error_model="numpy", cache=True)
