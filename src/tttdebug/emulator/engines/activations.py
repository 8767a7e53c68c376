# SPDX-License-Identifier: Apache-2.0
"""The vector unit's activation functions: ttnn's kernels for sigmoid, tanh, gelu, erf, softplus …, step by step.

`_bf16` is the form that ttnn compiles for a bfloat16 Dest, `_fp32` that for an fp32 Dest. A function that is not
rounded here is cut by the store into a bfloat16 Dest.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tttdebug.emulator.engines import matrix_unit_elementwise as eltwise
from tttdebug.emulator.engines.exponentials import exp_bf16, exp_fp32, exp_inside, exp_of_negative
from tttdebug.emulator.engines.reciprocals import WORMHOLE_RECIPROCALS, Reciprocals, reciprocal_estimate
from tttdebug.emulator.engines.vector_arithmetic import (
    add,
    below,
    bits_of,
    exponent_field,
    float_of,
    fma,
    greatest,
    horner,
    least,
    multiply,
    nearest_away,
    rounded,
    rounded_to_even,
)
from tttdebug.emulator.rounding import to_bfloat16_truncated


def clamped(x: Tensor, low: float, high: float) -> Tensor:
    return least(greatest(x, low), high)


def sigmoid_bf16(x: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    """1 / (1 + exp(−x)), unrounded."""
    return reciprocals.one_step(add(exp_inside(-x), 1.0))


def sigmoid_fp32(x: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    return reciprocals.two_steps(add(exp_fp32(-x), 1.0))


def silu_bf16(x: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    return rounded(multiply(x, sigmoid_bf16(x, reciprocals)))


def silu_fp32(x: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    return multiply(x, sigmoid_fp32(x, reciprocals))


def tanh_bf16(x: Tensor) -> Tensor:
    a = x.abs()
    p = horner(
        a, 0.00587673392147, -0.0666490197181, 0.281917631626, -0.489065974950, 0.030897438526, 0.999004364, 0.0
    )  # fmt: skip
    return rounded(torch.copysign(least(p, 1.0), x))


def tanh_fp32(x: Tensor, *, from_estimate: bool = False) -> Tensor:
    """expm1(2|x|) / (expm1(2|x|) + 2) with one refined division.

    The division starts from a magic word; `from_estimate`, from Blackhole's reciprocal instruction.
    """
    j = multiply(x, 2 * torch.tensor(1.442695).item())
    a = add(x, x).abs()
    i = nearest_away(j.abs()).nan_to_num(nan=255.0).clamp(max=255.0)
    f = fma(i.to(torch.float32), -0.693147182, a)
    r = horner(
        f, 1.974105835e-4, 1.393318176e-3, 8.331298828e-3, 4.166680202e-2, 1.666667163e-1, 0.5
    )  # fmt: skip
    r = fma(r, multiply(f, f), f)
    power = float_of((i.long() + 126).clamp(max=255) << 23)
    x0 = fma(r, power, add(power, -0.5))
    y = _refined_quotient(x0, add(x0, 1.0), from_estimate=from_estimate)
    y = torch.where(exponent_field(x) >= 115, y, x)
    y = torch.where(i < 61, y, torch.where(x.isnan(), x, 1.0))
    return torch.copysign(y, x)


def _refined_quotient(x0: Tensor, x1: Tensor, *, from_estimate: bool) -> Tensor:
    """x0/x1 by a reciprocal (of −x1 from the magic word) with a second-order step, and a residual."""
    if from_estimate:
        q, divisor = reciprocal_estimate(x1), -x1
    else:
        q, divisor = float_of(0xFEF30000 - bits_of(x1)), x1
    t = fma(divisor, q, 1.0)
    q = fma(q, fma(t, t, t), q)
    y0 = multiply(x0, q)
    return fma(fma(divisor, y0, x0), q, y0)


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
    gaussian = exp_inside(multiply(xx, -0.5))
    tail = horner(x, 0.00075950479368, 0.013809983619, 0.095413386822, 0.30369991064)
    tail = add(add(multiply(gaussian, tail), 0.375), -0.375)
    y = torch.where(x >= -3.125, multiply(x, middle), torch.where(x > -5.54259443, multiply(x, tail), 0.0))
    return rounded(torch.where(x >= 2.78125, x, y))


_ERF_BF16 = (
    (7.4481184425e-04, 4.5400281738e-02, 2.7609212279e-01, 1.1280932447e00),
    (2.4813862145e-05, 8.2844606784e-03, 1.3675764810e-01, 5.7439188334e-01, 1.0),
)
_ERF_FP32 = (
    (
        -2.8632063387e-10, 2.7384647439e-08, 1.7678321456e-05, 6.1307044234e-04, 5.6230435148e-03, 6.2133435160e-02,
        2.1477432549e-01, 1.1283791065e00,
    ),
    (
        -6.7350725691e-12, -3.5153888689e-09, 1.3156344494e-06, 1.3179056987e-04, 1.9545555115e-03, 1.9642570987e-02,
        1.2961706519e-01, 5.2367275953e-01, 1.0,
    ),
)  # fmt: skip


def erf(x: Tensor, *, fp32_dest: bool, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    """An odd polynomial over an even one, of x clamped at ±10."""
    x = clamped(x, -10.0, 10.0)
    numerator, denominator = _ERF_FP32 if fp32_dest else _ERF_BF16
    square = multiply(x, x)
    above = multiply(horner(square, *numerator), x)
    return clamped(multiply(above, reciprocals.two_steps(horner(square, *denominator))), -1.0, 1.0)


_ERFC_SEGMENTS = (
    (
        (1.3746744953e-02, -1.5691982210e-01, 6.8185544014e-01, -1.3375675678e00, 1.0000233650e00),
        (2.8375532478e-02, 2.5104774162e-02, -3.4568668343e-03, 4.3667086959e-01, -2.0801517367e-01, 1.0),
    ),
    (
        (-4.7387182178e-08, 9.1439767402e-07, -6.6162156145e-06, 2.1275576728e-05, -2.5655237550e-05),
        (-2.1375391632e-02, 1.2677097321e-01, -1.3888636231e-01, -2.0572184026e-01, -1.6457208991e-01, 1.0),
    ),
)


def erfc(x: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    """A quotient of polynomials of |x| on [0, 2½) and one on [2½, 5], and 2 less it for negative x."""
    a = least(x.abs(), 5.0)
    first, second = (tuple(horner(a, *terms) for terms in segment) for segment in _ERFC_SEGMENTS)
    above, under = (torch.where(a >= 2.5, far, near) for near, far in zip(first, second, strict=True))
    r = multiply(above, reciprocals.one_step(under))
    return torch.where(below(x, 0.0), add(-r, 2.0), r)


def gelu_fp32(x: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    """x·(½ + ½·erf(x/√2)); where erf comes out as −1 x·2⁻²⁵, and zero below the range of fp32's own erf."""
    e = erf(least(multiply(x, 0.7071067811865475), 10.0), fp32_dest=True, reciprocals=reciprocals)
    y = torch.where(e == -1.0, multiply(x, 2.0**-25), multiply(x, fma(e, 0.5, 0.5)))
    return torch.where(below(x, -5.54259443) | (x == torch.tensor(-5.54259443)), add(x, -x), y)


def gelu_tanh(x: Tensor, *, fp32_dest: bool, from_estimate: bool = False) -> Tensor:
    """x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), in fp32 throughout."""
    inner = multiply(multiply(x, fma(multiply(x, x), 0.044715, 1.0)), 0.7978845608028654)
    half = multiply(x, 0.5)
    y = fma(half, tanh_fp32(inner, from_estimate=from_estimate), half)
    return y if fp32_dest else rounded(y)


_LUT_LIMITS = (0.5, 1.0, 1.5, 2.0, 3.0)


def _lines(x: Tensor, slopes: tuple[float, ...], intercepts: tuple[float, ...], limits: tuple[float, ...]) -> Tensor:
    """A line in |x|, chosen by |x|; the table holds fp16 numbers."""
    segment = torch.bucketize(x.abs(), torch.tensor(limits, device=x.device), right=True)
    a, b = (torch.tensor(t, dtype=torch.float16, device=x.device).to(torch.float32) for t in (slopes, intercepts))
    return fma(x.abs(), a[segment], b[segment])


_GELU_SLOPES = (0.1928, 0.4939, 0.6188, 0.6099, 0.5402, 0.5)
_GELU_INTERCEPTS = (-1.0443e-4, -0.1604, -0.2796, -0.2635, -0.1194, 0.0)
_GELU_INTERCEPTS_BLACKHOLE = (-1.0443e-4, -0.1604, -0.2795, -0.2635, -0.1194, 0.0)


def gelu_approx(x: Tensor, intercepts: tuple[float, ...] = _GELU_INTERCEPTS) -> Tensor:
    """x/2 plus a line in |x| chosen from six; truncated by the store to bfloat16."""
    return fma(x, 0.5, _lines(x, _GELU_SLOPES, intercepts, _LUT_LIMITS))


gelu_approx_blackhole = partial(gelu_approx, intercepts=_GELU_INTERCEPTS_BLACKHOLE)


def tanh_approx(x: Tensor) -> Tensor:
    """A line in |x| chosen from six, with the sign of x."""
    slopes = (0.96191406, 0.57617188, 0.28710938, 0.09643555, 0.0390625, 0.0)
    return torch.copysign(_lines(x, slopes, (0.0, 0.19287109, 0.48193359, 0.76806641, 0.8828125, 1.0), _LUT_LIMITS), x)


def sigmoid_approx(x: Tensor) -> Tensor:
    """A line in |x| chosen from three, with the sign of x, plus ½."""
    line = _lines(x, (0.2265625, 0.265625, 0.0), (0.0, -0.046875, 0.5), (1.0, 2.0))
    return add(torch.copysign(line, x), 0.5)


_SOFTPLUS_BF16 = (
    -3.1273466851e-05, 5.0152968088e-04, -1.8627923291e-03, -1.3000584069e-02, 1.4279095486e-01, -5.0932420424e-01,
    6.9423984729e-01,
)  # fmt: skip
_SOFTPLUS_FP32 = (
    -4.8245715334e-07, 2.1285692128e-05, -3.4358495031e-04, 2.7290175203e-03, -1.0528374463e-02, 5.6753782555e-03,
    1.2186349183e-01, -4.9926245213e-01, 6.9310557842e-01,
)  # fmt: skip


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0, *, fp32_dest: bool) -> Tensor:
    """max(t, 0) + log(1 + exp(−|t|)) with t = β·x, over β; x itself above the threshold.

    The logarithm is a polynomial up to |t| = 5. Beyond it is zero with a bfloat16 Dest, with fp32 a short series.
    """
    t = multiply(x, beta)
    a = t.abs()
    r = horner(a, *(_SOFTPLUS_FP32 if fp32_dest else _SOFTPLUS_BF16))
    tail = torch.zeros_like(r)
    if fp32_dest:
        e = exp_of_negative(-a, fp32_input=True)
        tail = multiply(e, fma(e, fma(e, 0.333333343, -0.5), 1.0))
    r = torch.where(a > 5.0, tail, r)
    y = multiply(add(greatest(t, 0.0), r), 1.0 / beta)
    y = y if fp32_dest else rounded(y)
    return torch.where(t > threshold, x, y)


def mish(x: Tensor, *, fp32_dest: bool, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    """x·u(u + 2)/(u² + 2u + 2) with u = exp x; x itself from 8 on."""
    u, inverse = _mish_parts(x, fp32_dest, reciprocals)
    y = multiply(x, multiply(multiply(u, add(u, 2.0)), inverse))
    y = torch.where(below(x, 8.0), y, x)
    return y if fp32_dest else rounded(y)


def mish_blackhole(x: Tensor, *, fp32_dest: bool, reciprocals: Reciprocals) -> Tensor:
    """The same for negative x, x·(1 − 2/(u² + 2u + 2)) for others."""
    _, inverse = _mish_parts(x, fp32_dest, reciprocals)
    y = multiply(x, fma(inverse, -2.0, 1.0))
    y = torch.where(below(x, 8.0), y, x)
    y = y if fp32_dest else rounded(y)
    return torch.where(below(x, 0.0), mish(x, fp32_dest=fp32_dest, reciprocals=reciprocals), y)


def _mish_parts(x: Tensor, fp32_dest: bool, reciprocals: Reciprocals) -> tuple[Tensor, Tensor]:
    u = exp_fp32(x) if fp32_dest else exp_bf16(x, 1.0017248)
    one_more = add(u, 1.0)
    denominator = fma(one_more, one_more, 1.0)
    return u, (reciprocals.two_steps if fp32_dest else reciprocals.one_step)(denominator)


def hardsigmoid(x: Tensor) -> Tensor:
    return clamped(fma(x, 0.1666666716337204, 0.5), 0.0, 1.0)


def hardswish_bf16(x: Tensor) -> Tensor:
    """The hard sigmoid in Dest, times x on the matrix unit."""
    kept = to_bfloat16_truncated(hardsigmoid(x))
    return eltwise.multiply(kept, x.to(torch.bfloat16), phases=4, fp32_dest=False)


def hardswish_fp32(x: Tensor) -> Tensor:
    return multiply(hardsigmoid(x), x)


def hardmish(x: Tensor) -> Tensor:
    return multiply(x, clamped(fma(x, 0.5, 1.0), 0.0, 1.0))


def softsign(x: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    return multiply(x, reciprocals.two_steps(add(x.abs(), 1.0)))


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    return torch.where(below(x, 0.0), multiply(x, slope), x)


def log_sigmoid(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """−softplus(−x) by a polynomial on [−4, 4]; −exp(−x) above, x below."""
    polynomial = horner(
        -x, 7.4961114648886e-08, 7.1853546614875086e-06, 5.3185409342404455e-05, -0.00028794066747650504,
        -0.00330807245336473, 0.0031102809589356184, 0.12142381817102432, 0.49275708198547363, 0.6924354434013367,
    )  # fmt: skip
    exponential = exp_fp32(-x) if fp32_dest else exp_bf16(-x)
    middle = torch.where(-x < 4.0, -polynomial, x)
    return torch.where(-x < -4.0, -exponential, middle)


def square_bf16(x: Tensor) -> Tensor:
    return rounded_to_even(multiply(x, x))
