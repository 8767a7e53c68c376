# SPDX-License-Identifier: Apache-2.0
"""What the vector unit (SFPU) computes with: its multiply-add, conversions, and fields of fp32 words.

Every function takes and gives fp32 values. The multiply-add is Wormhole's on either chip: Blackhole's own differs in
the sign of zeros, the pattern of NaN and one sticky bit.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from tttdebug.emulator.rounding import SMALLEST_NORMAL, flush_denormals, to_bfloat16_ties_away, to_bfloat16_ties_even

Operand = Tensor | float
ROUNDING_BIAS = 1.5 * 2.0**23  # added and taken away again, it leaves the nearest integer
_LARGEST_ABSORBED = SMALLEST_NORMAL * (1 - 2.0**-25)  # from here on a sum rounds up to the smallest normal number
_SHIFTED_TWICE = 2.0**28  # a sum of so many units is shifted right by two bits


def fma(x: Operand, y: Operand, z: Operand) -> Tensor:
    """x·y + z as the unit adds.

    Both terms are cut to 26 bits below the larger exponent. What is lost is kept as a sticky bit, unless the whole term
    is lost. The product's exponent is the sum of its factors' exponents: below the fp32 range the product is zero,
    above it infinite, whatever z is. The sum is rounded to nearest even; where it must be shifted by two bits the
    upper of them is dropped. Denormals are zero on both ends, zeros positive, NaN the smallest of their sign.
    """
    if _on_cpu(x, y, z):
        from tttdebug.emulator.engines import compiled_fma  # numba is imported when it is needed

        return compiled_fma.fma(x, y, z)
    return fma_in_passes(x, y, z)


def fma_in_passes(x: Operand, y: Operand, z: Operand) -> Tensor:
    """`fma` in operations of torch, for any device."""
    xd, yd, zd = (_as_double(v) for v in (x, y, z))
    product, exponent = xd * yd, _exponent(xd) + _exponent(yd)
    overflows = (exponent >= 128) & (product != 0) & ~product.isnan()
    product = torch.where(overflows, torch.copysign(_INFINITY.to(product.device), product), product)
    product = torch.where(exponent < -127, 0.0, product)
    exponent = torch.maximum(torch.where(exponent < -127, -300.0, exponent), _exponent(zd)).clamp(-300, 512)
    unit = torch.ldexp(torch.ones_like(exponent), exponent - 26)
    units = _normalised(_to_odd(product / unit) + _to_odd(zd / unit))
    total = units * unit
    result = torch.where(total.abs() < _LARGEST_ABSORBED, 0.0, total).to(torch.float32)
    return _with_nan_of_sign(result, total, xd, yd, zd)


_ZERO, _ONE, _INFINITY = (torch.tensor(v, dtype=torch.float64) for v in (0.0, 1.0, torch.inf))


def _exponent(x: Tensor) -> Tensor:
    """floor(log₂|x|) of float64, as float64; −1023 for zero."""
    return ((x.view(torch.int64) >> 52 & 2047) - 1023).to(torch.float64)


def _to_odd(x: Tensor) -> Tensor:
    """Integers: x where it is one, else the odd one of its two neighbours; zero when x is less than one."""
    whole = torch.trunc(x)
    inexact = (whole != x) & (whole != 0) & (torch.fmod(whole, 2) == 0)
    return whole + torch.where(inexact, torch.sign(x), 0.0)


def _normalised(units: Tensor) -> Tensor:
    """A sum before its rounding: where it is shifted right by two bits, only the lower one of them sticks."""
    size = units.abs()
    quarter = torch.floor(size * 0.25)
    sticks = (torch.fmod(size, 2) != 0) & (torch.fmod(quarter, 2) == 0)
    shifted = torch.copysign((quarter + sticks) * 4, units)
    return torch.where((size >= _SHIFTED_TWICE) & size.isfinite(), shifted, units)


def _with_nan_of_sign(result: Tensor, total: Tensor, xd: Tensor, yd: Tensor, zd: Tensor) -> Tensor:
    nan = total.isnan()
    negative = torch.where(zd.isnan() & ~xd.isnan() & ~yd.isnan(), zd.signbit(), xd.signbit() ^ yd.signbit())
    pattern = torch.where(negative, -0x7FFFFF, 0x7F800001).to(torch.int32).view(torch.float32)
    return torch.where(nan, pattern, result)


def _as_double(v: Operand) -> Tensor:
    if isinstance(v, Tensor):
        return flush_denormals(v.to(torch.float32)).to(torch.float64)
    return torch.tensor(v, dtype=torch.float32).to(torch.float64)


def multiply(x: Operand, y: Operand) -> Tensor:
    """x·y + 0, which rounds once: float64 holds the product exactly."""
    if _on_cpu(x, y):
        from tttdebug.emulator.engines import compiled_fma

        return compiled_fma.multiply(x, y)
    return multiply_in_passes(x, y)


def multiply_in_passes(x: Operand, y: Operand) -> Tensor:
    """`multiply` in operations of torch, for any device."""
    xd, yd = _as_double(x), _as_double(y)
    product = xd * yd
    result = torch.where(product.abs() < _LARGEST_ABSORBED, 0.0, product).to(torch.float32)
    return _with_nan_of_sign(result, product, xd, yd, _ZERO.to(product.device))


def _on_cpu(*operands: Operand) -> bool:
    return all(v.device.type == "cpu" for v in operands if isinstance(v, Tensor))


def add(x: Operand, y: Operand) -> Tensor:
    """x·1 + y, which rounds once as fp32 addition does."""
    xf, yf = (flush_denormals(torch.as_tensor(v, dtype=torch.float32)) for v in (x, y))
    total = xf + yf
    return _with_nan_of_sign(flush_denormals(total), total, xf, _ONE.to(total.device), yf)


def horner(x: Tensor, *coefficients: float) -> Tensor:
    """The polynomial with these coefficients, highest power first, one multiply-add per step."""
    start = torch.full_like(x, coefficients[0])
    return reduce(lambda value, c: fma(value, x, c), coefficients[1:], start)


def bits_of(x: Tensor) -> Tensor:
    """fp32 words as int64, so that sums of them do not wrap."""
    return x.contiguous().view(torch.int32).to(torch.int64)


def float_of(bits: Tensor) -> Tensor:
    """The fp32 value of the low 32 bits."""
    low = bits & 0xFFFFFFFF
    return torch.where(low >= 1 << 31, low - (1 << 32), low).to(torch.int32).view(torch.float32)


def exponent_field(x: Tensor) -> Tensor:
    return (bits_of(x) >> 23) & 255


def with_exponent_field(x: Tensor, field: Tensor | int) -> Tensor:
    """x with the low 8 bits of `field` as its exponent."""
    kept = bits_of(x) & ~0x7F800000
    return float_of(kept | ((torch.as_tensor(field, device=x.device) & 255) << 23))


def times_power_of_two(x: Tensor, power: Tensor) -> Tensor:
    """x·2^power by the exponent field: infinite from 255 on, zero below 1."""
    field = exponent_field(x) + power.long()
    y = with_exponent_field(x, field)
    return torch.where(field >= 255, torch.inf, torch.where(field < 1, 0.0, y))


def below(x: Tensor, limit: float) -> Tensor:
    """x < limit as the unit tests it, by the sign of a difference: −0 is below 0, NaN falls on the side of its sign."""
    if limit == 0:
        return x.signbit()
    return torch.where(x.isnan(), x.signbit(), x < limit)


def least(x: Tensor, limit: float) -> Tensor:
    """The smaller one; NaN is beyond infinity."""
    return torch.where(x.isnan() & ~x.signbit(), limit, x.clamp(max=limit))


def greatest(x: Tensor, limit: float) -> Tensor:
    """The larger one; −NaN is beyond −infinity, −0 below +0."""
    return torch.where(x.isnan() & x.signbit(), limit, torch.where(x == limit, limit, x.clamp(min=limit)))


def to_nearest_integer(x: Tensor) -> tuple[Tensor, Tensor]:
    """x rounded by adding and subtracting 1.5·2²³: the integer as fp32, and as the low bits of the biased sum."""
    biased = add(x, ROUNDING_BIAS)
    return add(biased, -ROUNDING_BIAS), bits_of(biased)


def nearest_away(x: Tensor) -> Tensor:
    """Integers nearest to x, ties away from zero, as float64."""
    xd = x.to(torch.float64)
    return torch.trunc(xd + torch.copysign(torch.full_like(xd, 0.5), xd))


def rounded(x: Tensor) -> Tensor:
    """To a bfloat16 by the unit's instruction: ties away from zero, NaN to infinity, denormals to zero."""
    return flush_denormals(to_bfloat16_ties_away(_nan_to_infinity(x)).to(torch.float32))


def rounded_to_even(x: Tensor) -> Tensor:
    """To a bfloat16 by the kernels' own arithmetic: ties to even."""
    return to_bfloat16_ties_even(x).to(torch.float32)


def _nan_to_infinity(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), torch.copysign(torch.full_like(x, torch.inf), x), x)
