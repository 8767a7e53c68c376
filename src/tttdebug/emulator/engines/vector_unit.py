# SPDX-License-Identifier: Apache-2.0
"""The vector unit (SFPU) of Wormhole: its multiply-add, and ttnn's kernels for elementwise functions, step by step.

Each function takes and gives fp32 values and comes in two forms, because ttnn compiles two: one for a bfloat16 Dest
(shorter polynomials, rounded at the end) and one for an fp32 Dest. Constants are those of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from tttdebug.emulator.rounding import SMALLEST_NORMAL, flush_denormals, to_bfloat16_ties_away, to_bfloat16_ties_even

Operand = Tensor | float
LN2, LOG2_E = 0.6931471824645996, 1.4426950216293335
RECIPROCAL_UNROUNDED = (0.3232325017452240, 1.4545459747314453, 2.1212124824523926)
RECIPROCAL_ROUNDED = (0.32133400440216064, 1.4514148235321045, 2.1200883388519287)


def fma(x: Operand, y: Operand, z: Operand) -> Tensor:
    """x·y + z as the unit adds: both terms cut to 26 bits below the larger exponent with what is lost kept as a sticky
    bit, the sum rounded to nearest even. Denormals are zero on both ends."""
    xd, yd, zd = (_as_double(v) for v in (x, y, z))
    exponent = torch.maximum(_exponent(xd) + _exponent(yd), _exponent(zd)).clamp(max=512)
    unit = torch.ldexp(torch.ones_like(exponent), exponent - 26)
    product = xd * yd
    total = ((_to_odd(product / unit) + _to_odd(zd / unit)) * unit).to(torch.float32)
    negative = torch.signbit(xd) ^ torch.signbit(yd)
    return flush_denormals(torch.where(total.isnan(), torch.where(negative, -torch.nan, torch.nan), total))


def _exponent(x: Tensor) -> Tensor:
    """floor(log₂|x|) of float64, as float64; −1023 for zero."""
    return ((x.view(torch.int64) >> 52 & 2047) - 1023).to(torch.float64)


def _to_odd(x: Tensor) -> Tensor:
    """Integers: x where it is one, else the odd one of its two neighbours."""
    whole = torch.trunc(x)
    odd = whole + torch.where(whole % 2 == 0, torch.sign(x), 0.0)
    return torch.where(whole == x, whole, odd)


def _as_double(v: Operand) -> Tensor:
    if isinstance(v, Tensor):
        return flush_denormals(v.to(torch.float32)).to(torch.float64)
    return torch.tensor(v, dtype=torch.float32).to(torch.float64)


def multiply(x: Operand, y: Operand) -> Tensor:
    return fma(x, y, 0.0)


def add(x: Operand, y: Operand) -> Tensor:
    return fma(x, 1.0, y)


def horner(x: Tensor, *coefficients: float) -> Tensor:
    """The polynomial with these coefficients, highest power first, one multiply-add per step."""
    start = torch.full_like(x, coefficients[0])
    return reduce(lambda value, c: fma(value, x, c), coefficients[1:], start)


def _bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32)


def _float(bits: Tensor) -> Tensor:
    return bits.to(torch.int32).view(torch.float32)


def nearest_away(x: Tensor) -> Tensor:
    """Integers nearest to x, ties away from zero, as float64."""
    xd = x.to(torch.float64)
    return torch.trunc(xd + torch.copysign(torch.full_like(xd, 0.5), xd))


def _rounded(x: Tensor) -> Tensor:
    return to_bfloat16_ties_away(x).to(torch.float32)


def exp_bf16(x: Tensor, c0: float = 1.001953125, *, rounded: bool = True) -> Tensor:
    """2^t by a quadratic in the fraction of t = x·log₂e; `c0` is 1.0017248 where the function is used inside others."""
    t = fma(x, LOG2_E, 127.0).clamp(0.0, 255.0)
    z = (t.to(torch.float64) * 2.0**23).long()
    f = (z & 0x7FFFFF).to(torch.float32)
    p = fma(fma(f, 4.791750143340323e-15, 7.839635491371155e-8), f, c0)
    y = _float((_bits(p) & 0x7FFFFF) | (((z >> 23) & 255) << 23).to(torch.int32))
    return _rounded(y) if rounded else y


def exp2_bf16(x: Tensor) -> Tensor:
    return exp_bf16(multiply(x, LN2), 1.0017248)


def exp_fp32(x: Tensor) -> Tensor:
    """exp by range reduction with a two-part ln 2 and a polynomial of degree 6."""
    j = nearest_away(multiply(x, LOG2_E)).clamp(-32767, 32767)
    jf = j.to(torch.float32)
    f = fma(jf, -1.42860677e-6, fma(jf, -0.693145752, x))
    r = horner(
        f, 1.37805939e-3, 8.37312452e-3, 4.16695364e-2, 1.66664720e-1, 4.99999851e-1, 1.0, 1.0
    )  # fmt: skip
    exponent = ((_bits(r) >> 23) & 255).long() + j.long()
    y = _float((_bits(r) & -0x7F800001).long() | (exponent.clamp(0, 254) << 23))
    y = torch.where(exponent >= 255, torch.inf, torch.where(exponent < 1, 0.0, y))
    return torch.where(x.isnan(), x, y)


SCHRAUDOLPH_SLOPE, SCHRAUDOLPH_OFFSET = 369.329925537109375, 32500.818359375


def exp_approx(x: Tensor, *, fp32_dest: bool = False) -> Tensor:
    """Schraudolph's exp: a linear function written into exponent and fraction; arguments below −88.5 are clamped."""
    linear = x.to(torch.float64).clamp_(min=-88.5).mul_(SCHRAUDOLPH_SLOPE).add_(SCHRAUDOLPH_OFFSET).to(torch.float32)
    bits = linear.add_(0.5).nan_to_num_(nan=65535.0).clamp_(0, 65535).to(torch.int32).bitwise_left_shift_(15)
    return (bits if fp32_dest else bits.bitwise_and_(-0x10000)).view(torch.float32)


def reciprocal(
    x: Tensor, steps: int, constants: tuple[float, float, float] = RECIPROCAL_UNROUNDED, *, rounded: bool = False
) -> Tensor:
    """1/x: a quadratic start on the significand and `steps` Newton steps, then the exponent put in."""
    k0, k1, k2 = constants
    bits = _bits(x)
    nx = _float((bits & 0x7FFFFF) | -0x40800000)  # −1.m
    y = fma(fma(nx, k0, k1), nx, k2)
    for _ in range(steps):
        y = fma(y, fma(nx, y, 1.0), y)
    if rounded:
        y = _rounded(y)
    scale = multiply(_float(~bits & 0x7F800000), 0.5)
    return torch.copysign(multiply(y, scale), x)


def reciprocal_bf16(x: Tensor) -> Tensor:
    return reciprocal(x, 1, RECIPROCAL_ROUNDED, rounded=True)


def reciprocal_fp32(x: Tensor) -> Tensor:
    return reciprocal(x, 2)


def _rsqrt_start(x: Tensor) -> tuple[Tensor, Tensor]:
    y = _float(0x5F1110A0 - (_bits(x).long() >> 1))
    c = multiply(-y, multiply(x, y))
    return y, multiply(y, fma(c, add(c, 2.2533049), 2.2825186))


def rsqrt(x: Tensor) -> Tensor:
    """1/√x by one cubic and one Newton step; ±0 gives ±∞, negative numbers NaN."""
    _, y = _rsqrt_start(x)
    xy = multiply(x, y)
    root = fma(fma(-y, xy, 1.0), multiply(y, 0.5), y)
    root = torch.where(x == 0, torch.copysign(torch.full_like(x, torch.inf), x), root)
    root = torch.where(x == torch.inf, 0.0, root)
    return torch.where(x < 0, torch.nan, root)


def rsqrt_approx(x: Tensor) -> Tensor:
    """1/√x by a magic constant and one quadratic step, as the norms use it in approximate mode."""
    y = _float(0x5F0B3892 - (_bits(x).long() >> 1))
    c = multiply(x, y)
    return multiply(y, fma(-y, c, 1.89099014875))


def sqrt(x: Tensor) -> Tensor:
    """√x; ±0 stays, negative numbers give NaN."""
    _, y = _rsqrt_start(x)
    xy = multiply(x, y)
    root = fma(fma(-y, xy, 1.0), multiply(xy, 0.5), xy)
    root = torch.where((x == 0) | (x == torch.inf), x, root)
    return torch.where(x < 0, torch.nan, root)


def sigmoid_bf16(x: Tensor) -> Tensor:
    """1 / (1 + exp(−x)), unrounded."""
    return reciprocal(add(exp_bf16(-x, 1.0017248, rounded=False), 1.0), 1)


def sigmoid_fp32(x: Tensor) -> Tensor:
    return reciprocal(add(exp_fp32(-x), 1.0), 2)


def silu_bf16(x: Tensor) -> Tensor:
    return _rounded(multiply(x, sigmoid_bf16(x)))


def silu_fp32(x: Tensor) -> Tensor:
    return multiply(x, sigmoid_fp32(x))


def tanh_bf16(x: Tensor) -> Tensor:
    a = x.abs()
    p = horner(
        a, 0.00587673392147, -0.0666490197181, 0.281917631626, -0.489065974950, 0.030897438526, 0.999004364
    )  # fmt: skip
    return _rounded(torch.copysign(multiply(a, p).clamp(max=1.0), x))


def tanh_fp32(x: Tensor) -> Tensor:
    """expm1(2|x|) / (expm1(2|x|) + 2) with one refined division."""
    j = multiply(x, 2 * torch.tensor(1.442695).item())
    a = add(x, x).abs()
    i = nearest_away(j.abs()).clamp(max=255.0)
    f = fma(i.to(torch.float32), -0.693147182, a)
    r = horner(
        f, 1.974105835e-4, 1.393318176e-3, 8.331298828e-3, 4.166680202e-2, 1.666667163e-1, 0.5
    )  # fmt: skip
    r = fma(r, multiply(f, f), f)
    power = _float((i.long() + 126).clamp(max=255) << 23)
    x0 = fma(r, power, add(power, -0.5))
    x1 = add(x0, 1.0)
    q = _float(0xFEF30000 - _bits(x1).long() - (1 << 32))
    t = fma(x1, q, 1.0)
    t = fma(t, t, t)
    q = fma(q, t, q)
    y0 = multiply(x0, q)
    y = fma(fma(x1, y0, x0), q, y0)
    y = torch.where(x.abs() < 2.0**-12, x.abs(), y)
    return torch.copysign(torch.where(i < 61, y.abs(), 1.0), x)


def gelu_bf16(x: Tensor) -> Tensor:
    """x·Φ(x) in four pieces; the tail follows torch's fp32 staircase."""
    xx = multiply(x, x)
    middle = fma(
        x,
        horner(
            xx, 7.9821413868e-8, -3.8082057209e-6, 8.1812159812e-5, -0.0010717806322, 0.0097720050615, -0.066361041488,
            0.39894227818,
        ),
        0.5,
    )  # fmt: skip
    gaussian = exp_bf16(multiply(xx, -0.5), 1.0017248, rounded=False)
    tail = horner(x, 0.00075950479368, 0.013809983619, 0.095413386822, 0.30369991064)
    tail = add(add(multiply(gaussian, tail), 0.375), -0.375)
    y = torch.where(x >= -3.125, multiply(x, middle), torch.where(x > -5.54259443, multiply(x, tail), 0.0))
    return _rounded(torch.where(x >= 2.78125, x, y))


_GELU_SLOPES = (0.1928, 0.4939, 0.6188, 0.6099, 0.5402, 0.5)
_GELU_INTERCEPTS = (-1.0443e-4, -0.1604, -0.2796, -0.2635, -0.1194, 0.0)
_LUT_LIMITS = (0.5, 1.0, 1.5, 2.0, 3.0)


def gelu_approx(x: Tensor) -> Tensor:
    """x/2 plus a line in |x| chosen from six; truncated by the store to bfloat16."""
    segment = torch.bucketize(x.abs(), torch.tensor(_LUT_LIMITS, device=x.device), right=True)
    slopes, intercepts = (
        torch.tensor(table, dtype=torch.float16, device=x.device).to(torch.float32)
        for table in (_GELU_SLOPES, _GELU_INTERCEPTS)
    )
    return fma(x, 0.5, fma(x.abs(), slopes[segment], intercepts[segment]))


def _log(x: Tensor, polynomial: Callable[[Tensor], Tensor]) -> Tensor:
    three_quarters = 0x3F400000
    e = (_bits(x).long() - three_quarters) & ~0x7FFFFF
    m = add(_float(_bits(x).long() - e), -1.0)
    r = fma(polynomial(m), multiply(m, m), m)
    y = fma(e.to(torch.float32), LN2 * 2.0**-23, r)
    y = torch.where(x.abs() < SMALLEST_NORMAL, -torch.inf, y)
    y = torch.where(x == torch.inf, torch.inf, y)
    return torch.where(x <= -SMALLEST_NORMAL, torch.nan, y)


def log_bf16(x: Tensor) -> Tensor:
    return _rounded(_log(x, lambda m: fma(fma(m, -0.25, float.fromhex("0x1.744p-2")), m, float.fromhex("-0x1.008p-1"))))


def log_fp32(x: Tensor) -> Tensor:
    coefficients = (
        "-0x1.92cp-5", "0x1.b84p-4", "-0x1.0c4p-3", "0x1.274p-3", "-0x1.55p-3", "0x1.998p-3", "-0x1.00001ap-2",
        "0x1.555572p-2", "-0.5",
    )  # fmt: skip
    values = [float(c) if c == "-0.5" else float.fromhex(c) for c in coefficients]
    return _log(x, lambda m: horner(m, *values))


def square_bf16(x: Tensor) -> Tensor:
    return to_bfloat16_ties_even(multiply(x, x)).to(torch.float32)


# By ttnn's name: the steps for a bfloat16 Dest, whose result the store truncates, and those for an fp32 Dest.
ACCURATE: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "exp": (exp_bf16, exp_fp32),
    "exp2": (exp2_bf16, lambda x: torch.exp2(x.to(torch.float64)).to(torch.float32)),
    "log": (log_bf16, log_fp32),
    "reciprocal": (reciprocal_bf16, reciprocal_fp32),
    "sqrt": (lambda x: _rounded(sqrt(x)), sqrt),
    "rsqrt": (lambda x: _rounded(rsqrt(x)), rsqrt),
    "sigmoid": (lambda x: _rounded(sigmoid_bf16(x)), sigmoid_fp32),
    "silu": (silu_bf16, silu_fp32),
    "tanh": (tanh_bf16, tanh_fp32),
    "gelu": (gelu_bf16, lambda x: F.gelu(x.to(torch.float64)).to(torch.float32)),
    "square": (square_bf16, lambda x: multiply(x, x)),
}
APPROXIMATE: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "exp": (exp_approx, lambda x: exp_approx(x, fp32_dest=True)),
    "rsqrt": (lambda x: _rounded(rsqrt_approx(x)), rsqrt_approx),
    "gelu": (gelu_approx, gelu_approx),
}
