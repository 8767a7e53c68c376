# SPDX-License-Identifier: Apache-2.0
"""The vector unit's sine, cosine and tangent: ttnn's kernels, step by step.

Each takes away the nearest multiple of π (of π/2 for the tangent) in four parts; the multiple's last bit is the sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines.vector_arithmetic import (
    ROUNDING_BIAS,
    add,
    bits_of,
    float_of,
    fma,
    horner,
    multiply,
    rounded,
)

_PER_PI, _PER_HALF_PI = 0.31830987334251404, 0.6366197466850281
_MINUS_PI = tuple(-float.fromhex(part) for part in ("0x1.92p+1", "0x1.fbp-11", "0x1.51p-21", "0x1.0b4612p-33"))
_MINUS_HALF_PI = tuple(part / 2 for part in _MINUS_PI)
_SINE = {
    False: ("-0x1.8b10a4p-13", "0x1.10c2a2p-7", "-0x1.5554a4p-3"),
    True: ("0x1.5dc908p-19", "-0x1.9f70fp-13", "0x1.110edap-7", "-0x1.55554cp-3"),
}
_TANGENT = {
    False: ("0x1.4f1f4ep-4", "0x1.02b98p-3", "0x1.55953p-2"),
    True: (
        "0x1.fa9f82p-9", "0x1.2b404p-10", "0x1.4787dp-7", "0x1.620abcp-6", "0x1.ba5716p-5", "0x1.111072p-3",
        "0x1.555556p-2",
    ),
}  # fmt: skip


def _without(x: Tensor, j: Tensor, parts: tuple[float, ...]) -> Tensor:
    """x + j·(the sum of the parts), one after the other."""
    for part in parts:
        x = fma(j, part, x)
    return x


def _sine_of_remainder(a: Tensor, low_bits: Tensor, *, fp32_dest: bool) -> Tensor:
    """sin a, its sign changed where the multiple is odd."""
    s = multiply(a, a)
    a = float_of(bits_of(a) ^ ((low_bits & 1) << 31))
    r = fma(horner(s, *(float.fromhex(c) for c in _SINE[fp32_dest])), multiply(a, s), a)
    return r if fp32_dest else rounded(r)


def sine(x: Tensor, *, fp32_dest: bool) -> Tensor:
    biased = fma(x, _PER_PI, ROUNDING_BIAS)
    a = _without(x, add(biased, -ROUNDING_BIAS), _MINUS_PI)
    return _sine_of_remainder(a, bits_of(biased), fp32_dest=fp32_dest)


def cosine(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """The sine of x plus a quarter turn: an odd multiple of π/2 is taken away."""
    biased = add(fma(x, _PER_PI, 0.5), ROUNDING_BIAS)
    j = fma(add(biased, -ROUNDING_BIAS), 2.0, -1.0)
    return _sine_of_remainder(_without(x, j, _MINUS_HALF_PI), bits_of(biased), fp32_dest=fp32_dest)


def tangent(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """A polynomial on ±π/4, and −1 over it where the multiple is odd; with fp32 Dest the quotient is corrected."""
    biased = fma(x, _PER_HALF_PI, ROUNDING_BIAS)
    a = _without(x, add(biased, -ROUNDING_BIAS), _MINUS_HALF_PI)
    s = multiply(a, a)
    t = multiply(horner(s, *(float.fromhex(c) for c in _TANGENT[fp32_dest])), s)
    r = fma(t, a, a)
    inverse = _minus_reciprocal(r)
    if fp32_dest:
        lost = fma(t, a, fma(-1.0, r, a))
        correction = fma(lost, inverse, fma(r, inverse, 1.0))
        inverse = fma(correction, inverse, inverse)
    y = torch.where((bits_of(biased) & 1) == 1, inverse, r)
    return y if fp32_dest else rounded(y)


def _minus_reciprocal(r: Tensor) -> Tensor:
    """−1/r: a quadratic on the significand and one Newton step, then the exponent with the sign turned."""
    bits = bits_of(r)
    negative = float_of((bits & 0x7FFFFF) | 0xBF800000)
    t = fma(fma(negative, 0.3232325017452240, 1.4545459747314453), negative, 2.1212124824523926)
    t = fma(t, fma(negative, t, 1.0), t)
    return multiply(t, multiply(float_of(~bits & 0xFF800000), 0.5))
