# SPDX-License-Identifier: Apache-2.0
"""The vector unit's exponentials: ttnn's kernels for exp, 2^x, exp − 1 and what is made of them, step by step.

`_bf16` is the form that ttnn compiles for a bfloat16 Dest, `_fp32` that for an fp32 Dest. Constants are the kernels'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines.vector_arithmetic import (
    ROUNDING_BIAS,
    add,
    below,
    bits_of,
    exponent_field,
    float_of,
    fma,
    greatest,
    horner,
    multiply,
    nearest_away,
    rounded,
    times_power_of_two,
    to_nearest_integer,
    with_exponent_field,
)

LN2, LOG2_E = 0.6931471824645996, 1.4426950216293335
_INSIDE_OTHERS = 1.0017248  # the constant term of 2^f where it is compiled into other functions


def _power_of_two(t: Tensor, c0: float) -> Tensor:
    """2^(t − 127) for t in [0, 255]: the whole part into the exponent, a quadratic in the fraction."""
    z = (t.to(torch.float64) * 2.0**23).long()
    fraction = (z & 0x7FFFFF).to(torch.float32)
    p = fma(fma(fraction, 4.791750143340323e-15, 7.839635491371155e-08), fraction, c0)
    return with_exponent_field(p, z >> 23)


def exp_bf16(x: Tensor, c0: float = 1.001953125, *, rounded: bool = True) -> Tensor:
    """2^t by a quadratic in the fraction of t = x·log₂e; `c0` is 1.0017248 where the function is used inside others."""
    y = _power_of_two(fma(x, LOG2_E, 127.0).nan_to_num_(nan=255.0).clamp(0.0, 255.0), c0)
    return _rounded(y) if rounded else y


_rounded = rounded


def exp_inside(x: Tensor) -> Tensor:
    """exp as sigmoid and its like call it: unrounded."""
    return exp_bf16(x, _INSIDE_OTHERS, rounded=False)


def exp2_bf16(x: Tensor) -> Tensor:
    return rounded(_power_of_two(add(x, 127.0).nan_to_num_(nan=255.0).clamp(0.0, 255.0), _INSIDE_OTHERS))


def exp2_fp32(x: Tensor) -> Tensor:
    """2^x by the nearest integer and a polynomial of degree 6 in what is left."""
    j = nearest_away(x.nan_to_num(nan=0.0)).clamp(-32767, 32767)
    f = add(x, -j.to(torch.float32))
    coefficients = ("0x1.41cp-13", "0x1.5f4p-10", "0x1.3b4p-7", "0x1.c6afd8p-5", "0x1.ebfba0p-3", "0x1.62e42ep-1")
    r = horner(f, *(float.fromhex(c) for c in coefficients), 1.0)
    return torch.where(x.isnan(), x, times_power_of_two(r, j))


def exp_fp32(x: Tensor) -> Tensor:
    """exp by range reduction with a two-part ln 2 and a polynomial of degree 6."""
    j = nearest_away(multiply(x, LOG2_E).nan_to_num(nan=0.0)).clamp(-32767, 32767)
    jf = j.to(torch.float32)
    f = fma(jf, -1.42860677e-6, fma(jf, -0.693145752, x))
    r = horner(f, 1.37805939e-3, 8.37312452e-3, 4.16695364e-2, 1.66664720e-1, 4.99999851e-1, 1.0, 1.0)
    return torch.where(x.isnan(), x, times_power_of_two(r, j))


SCHRAUDOLPH_SLOPE, SCHRAUDOLPH_OFFSET = 369.329925537109375, 32500.818359375


def exp_approx(x: Tensor, *, fp32_dest: bool = False) -> Tensor:
    """Schraudolph's exp: a linear function written into exponent and fraction; arguments below −88.5 are clamped."""
    linear = x.to(torch.float64).clamp_(min=-88.5).mul_(SCHRAUDOLPH_SLOPE).add_(SCHRAUDOLPH_OFFSET).to(torch.float32)
    bits = linear.add_(0.5).nan_to_num_(nan=65535.0).clamp_(0, 65535).to(torch.int32).bitwise_left_shift_(15)
    return (bits if fp32_dest else bits.bitwise_and_(-0x10000)).view(torch.float32)


def exp_approx_unclamped(x: Tensor, scale: float = 1.0, *, fp32_dest: bool = False) -> Tensor:
    """The same without the clamp, of x·scale, as attention runs it: a sign and 15 bits, saturating near 2."""
    slope = torch.tensor(SCHRAUDOLPH_SLOPE * scale, dtype=torch.float32).item()
    level = nearest_away(fma(x, slope, SCHRAUDOLPH_OFFSET)).nan_to_num(nan=32767.0).clamp(-32767, 32767)
    bits = level.abs().long() << 15
    return torch.copysign(float_of(bits if fp32_dest else bits & ~0xFFFF), level.to(torch.float32))


def _expm1_in_halves(x: Tensor, ln2_high: float) -> tuple[Tensor, Tensor, Tensor]:
    """j = x/ln 2 to the nearest integer, its low bits, and x − j·ln 2 to first order."""
    biased = fma(x, 1.442695, ROUNDING_BIAS)
    j = add(biased, -ROUNDING_BIAS)
    return j, bits_of(biased), fma(j, ln2_high, x)


def _half_power(low_bits: Tensor) -> Tensor:
    """2^j / 2 from the low bits of the biased integer."""
    return float_of((low_bits << 23) + 0x3F000000)


def _beyond(r: Tensor, j_less_2: Tensor) -> Tensor:
    """Half of exp − 1 where its exponent does not fit: infinite or −½."""
    far = nearest_away(j_less_2.abs()).nan_to_num(nan=127.0).clamp(max=127) >= 127
    limit = torch.where(j_less_2 < 0, -0.5, multiply(j_less_2, torch.inf))
    return torch.where(far, limit, r)


def expm1_bf16(x: Tensor) -> Tensor:
    """exp(f) − 1 by a polynomial in the remainder f, and where j ≠ 0 scaled by 2^j in halves."""
    j, low_bits, f = _expm1_in_halves(x, -0.6931471805599453)
    r = horner(f, 8.361816406e-03, 4.177856445e-02, 1.666259766e-01, 0.5)
    r = fma(r, multiply(f, f), f)
    scale = _half_power(low_bits)
    scaled = _beyond(fma(scale, r, add(scale, -0.5)), add(j, -2.0))
    return rounded(torch.where(j != 0, multiply(scaled, 2.0), r))


def expm1_fp32(x: Tensor) -> Tensor:
    """The same with a two-part ln 2, a longer polynomial, and 2^j/2 − ½ in two parts."""
    j, low_bits, f = _expm1_in_halves(x, -0.693145752)
    f = fma(j, -1.42860677e-6, f)
    below_half = torch.tensor(0x3EFFFFFF, dtype=torch.int32).view(torch.float32).item()
    r = horner(f, 1.974105835e-04, 1.393107930e-3, 8.333439939e-3, 4.166680202e-2, 1.666667163e-1, below_half)
    first = j == 1
    r = fma(r, multiply(f, f), torch.where(first, add(f, 0.5), f))
    t = _half_power(low_bits)
    y = add(t, -0.5)
    scaled = add(fma(r, t, add(add(t, -y), -0.5)), y)
    scaled = torch.where(first, r, _beyond(scaled, add(add(j, -1.0), -1.0)))
    return torch.where(j != 0, multiply(scaled, 2.0), r)


def expm1_clamped(x: Tensor, *, fp32_input: bool) -> Tensor:
    """exp − 1 as elu and its like compute it: (2^k − 1) + 2^k·r·h(r), x clamped at −87."""
    x = greatest(x, -87.0)
    biased = fma(x, 1.4426950408889634, ROUNDING_BIAS)
    k = add(biased, -ROUNDING_BIAS)
    r = fma(k, -3.19461832987e-05, fma(k, -0.6931152343750000, x))
    if fp32_input:
        h = horner(r, 1.3948583510e-03, 8.3691505715e-03, 4.1666239500e-02, 1.6666504741e-01, 0.5, 1.0)
    else:
        h = horner(r, 8.3751315251e-03, 4.1875664145e-02, 1.6666433215e-01, 4.9999371171e-01, 1.0)
    h = multiply(r, h)
    power = with_exponent_field(torch.ones_like(x), bits_of(biased) - 0x4B3FFF81)
    return fma(power, h, add(power, -1.0))


def elu(x: Tensor, alpha: float = 1.0, *, fp32_dest: bool) -> Tensor:
    y = torch.where(below(x, 0.0), multiply(alpha, expm1_clamped(x, fp32_input=fp32_dest)), x)
    return y if fp32_dest else rounded(y)


def celu(x: Tensor, alpha: float = 1.0, *, fp32_dest: bool) -> Tensor:
    inner = expm1_clamped(multiply(x, 1.0 / alpha), fp32_input=fp32_dest)
    y = torch.where(below(x, 0.0), multiply(alpha, inner), x)
    return y if fp32_dest else rounded(y)


def selu(x: Tensor, scale: float = 1.0506999492645264, alpha: float = 1.673259973526001, *, fp32_dest: bool) -> Tensor:
    inner = multiply(multiply(scale, alpha).item(), expm1_clamped(x, fp32_input=fp32_dest))
    y = torch.where(below(x, 0.0), inner, multiply(scale, x))
    return y if fp32_dest else rounded(y)


def exp_of_negative(x: Tensor, *, fp32_input: bool) -> Tensor:
    """exp of a negative number by its Taylor series after range reduction; zero where it underflows."""
    k, low_bits = to_nearest_integer(multiply(x, 1.4426950408889634))
    r = fma(k, -3.19461832987e-05, fma(k, -0.6931152343750000, x))
    series = (1.0, 1.0, 0.5, 0.166666667, 0.0416666667, 0.00833333333, 0.00138888889, 0.000198412698)
    p = horner(r, *reversed(series if fp32_input else series[:6]))
    field = exponent_field(p) + low_bits - 0x4B400000
    return torch.where(field > 0, with_exponent_field(p, field), 0.0)
