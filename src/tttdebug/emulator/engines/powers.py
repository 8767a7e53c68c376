# SPDX-License-Identifier: Apache-2.0
"""The vector unit's a^b of two tensors: ttnn's kernels, step by step, 2^(b·log₂|a|) with the sign put in afterwards.

With a bfloat16 Dest both steps are quadratics and cubics in the bits. With an fp32 Dest the logarithm is a series, and
b·log₂|a| is carried in two parts, so that its whole part does not push out its fraction.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tttdebug.emulator.engines.exponentials import exp_fp32
from tttdebug.emulator.engines.vector_arithmetic import (
    add,
    below,
    exponent_field,
    float_of,
    fma,
    horner,
    multiply,
    nearest_away,
    rounded,
    to_nearest_integer,
    with_exponent_field,
)

_LOG2_E = 1.442695
_LOG_CUBIC = ("0x2.44734p-4", "-0xd.e712ap-4", "0x2.4f5388p+0", "-0x1.952992p+0")


def _significand(x: Tensor) -> Tensor:
    """|x| with its exponent taken away, in [1, 2)."""
    return with_exponent_field(x.abs(), 127)


def _to_positive_integer(x: Tensor) -> Tensor:
    """|x| cut to an integer; the largest of 31 bits where it does not fit."""
    size = x.abs().double().nan_to_num(nan=2.0**31).clamp(max=2.0**31)
    return torch.where(size >= 2.0**31, 2**31 - 1, size.long())


def power_bf16(a: Tensor, b: Tensor) -> Tensor:
    a, b = torch.broadcast_tensors(a, b)
    x = _significand(a)
    series = horner(x, *(float.fromhex(c) for c in _LOG_CUBIC))
    z = multiply(b, fma(series, _LOG2_E, (exponent_field(a) - 127).to(torch.float32)))
    z = torch.where(below(z, -127.0), -127.0, z)
    field = exponent_field(z)
    z = torch.where(field == 255, z, with_exponent_field(z, field + 23))
    word = _to_positive_integer(add(z, float(0x3F800000)))
    fraction = word & 0x7FFFFF
    first = multiply(0.40196114e-7, (0xF94EE7 + fraction).to(torch.float32))
    refined = _to_positive_integer(multiply(first, (0x560E + fraction).to(torch.float32)))
    y = with_exponent_field(float_of(refined), word >> 23)
    y = _signed(y, a, b)
    y = torch.where((a == 0) & (b != 0), torch.where(b.signbit(), torch.nan, 0.0), y)
    return rounded(y)


def power_fp32(a: Tensor, b: Tensor) -> Tensor:
    a, b = torch.broadcast_tensors(a, b)
    whole, rest = _log2(a)
    split = multiply(b, 4097.0)
    high = add(split, -add(split, -b))
    z_high = multiply(high, whole)
    z_low = fma(add(b, -high), whole, multiply(b, multiply(rest, _LOG2_E)))
    s = add(z_high, z_low)
    tail = add(z_low, -add(s, -z_high))
    tiny = below(s, -127.0)
    s, tail = torch.where(tiny, -127.0, s), torch.where(tiny, 0.0, tail)
    k, low_bits = to_nearest_integer(s)
    y = exp_fp32(multiply(add(add(s, -k), tail), math.log(2)))
    field = exponent_field(y) + low_bits - 0x4B400000
    y = torch.where(field >= 255, torch.inf, with_exponent_field(y, field))
    y = _signed(y, a, b.abs())
    limit = torch.where(b.signbit(), torch.inf, 0.0)
    y = torch.where((a == 0) & (b != 0), torch.copysign(limit, y), y)
    return torch.where((a == 0) & b.isnan(), torch.nan, y)


def _log2(a: Tensor) -> tuple[Tensor, Tensor]:
    """The exponent of |a| and ln of its significand, taken in [√½, √2), by the series of atanh."""
    m, exponent = _significand(a), exponent_field(a) - 127
    large = ~below(m, 1.4142135381698608)
    m, exponent = torch.where(large, multiply(m, 0.5), m), exponent + large
    above = add(m, 1.0)
    inverse = fma(above, -0.2426406871192851, 1.0)
    for _ in range(3):
        inverse = multiply(inverse, fma(-above, inverse, 2.0))
    z = multiply(add(m, -1.0), inverse)
    odd = horner(multiply(z, z), 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1.0)
    return exponent.to(torch.float32), multiply(2.0, multiply(z, odd))


def _signed(y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The sign of an odd power where a is negative; no number where b is no integer of 15 bits."""
    integer = nearest_away(b).nan_to_num(nan=32767.0).clamp(-32767, 32767)
    odd = torch.where(integer.long() % 2 == 1, -y.abs(), y.abs())
    return torch.where(a.signbit(), torch.where(integer == b, odd, torch.nan), y)
