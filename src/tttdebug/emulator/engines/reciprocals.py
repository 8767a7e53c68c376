# SPDX-License-Identifier: Apache-2.0
"""The vector unit's reciprocals and roots: ttnn's kernels for 1/x, √x, 1/√x and the cube root, and division.

Wormhole starts 1/x from a quadratic, Blackhole from a table in hardware; other functions divide by whichever their
chip has, so they take a `Reciprocals`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tttdebug.emulator.engines.vector_arithmetic import (
    add,
    bits_of,
    exponent_field,
    float_of,
    fma,
    multiply,
    rounded,
    rounded_to_even,
    with_exponent_field,
)

RECIPROCAL_UNROUNDED = (0.3232325017452240, 1.4545459747314453, 2.1212124824523926)
RECIPROCAL_ROUNDED = (0.32133400440216064, 1.4514148235321045, 2.1200883388519287)
_EXPONENT = 0x7F800000


@dataclass(frozen=True)
class Reciprocals:
    """1/x of one chip inside other functions, by one and by two Newton steps, and of a significand in [1, 2)."""

    one_step: Callable[[Tensor], Tensor]
    two_steps: Callable[[Tensor], Tensor]
    of_significand: Callable[[Tensor], Tensor]


def _significand_reciprocal(
    nx: Tensor, steps: int, constants: tuple[float, float, float] = RECIPROCAL_UNROUNDED
) -> Tensor:
    """1/m from −m in (−2, −1]: a quadratic, then Newton steps."""
    k0, k1, k2 = constants
    y = fma(fma(nx, k0, k1), nx, k2)
    for _ in range(steps):
        y = fma(y, fma(nx, y, 1.0), y)
    return y


def reciprocal(
    x: Tensor, steps: int, constants: tuple[float, float, float] = RECIPROCAL_UNROUNDED, *, rounded: bool = False
) -> Tensor:
    """1/x on Wormhole: a quadratic start on the significand and `steps` Newton steps, then the exponent put in.

    `rounded` asks for the significand to be rounded to a bfloat16's before that.
    """
    bits = bits_of(x)
    y = _significand_reciprocal(float_of((bits & 0x7FFFFF) | 0xBF800000), steps, constants)
    if rounded:
        y = _rounded(y)
    scale = multiply(float_of(~bits & _EXPONENT), 0.5)
    return torch.copysign(multiply(y, scale), x)


_rounded = rounded


def reciprocal_bf16(x: Tensor) -> Tensor:
    return reciprocal(x, 1, RECIPROCAL_ROUNDED, rounded=True)


def reciprocal_fp32(x: Tensor) -> Tensor:
    return reciprocal(x, 2)


WORMHOLE_RECIPROCALS = Reciprocals(
    one_step=lambda x: reciprocal(x, 1),
    two_steps=reciprocal_fp32,
    of_significand=lambda m: torch.copysign(_significand_reciprocal(-m.abs(), 1), m),
)


def reciprocal_estimate(x: Tensor) -> Tensor:
    """Blackhole's instruction: 7 bits of 1/x from a table; zero from 2¹²⁶ on, infinite below the normal range."""
    field, index = exponent_field(x), (bits_of(x) >> 16) & 0x7F
    table = torch.floor(32768 / (128 + index.double() + 0.4375) - 128 + 0.421875).long()
    y = float_of(((253 - field).clamp(0, 255) << 23) | (table << 16))
    y = torch.where(field == 0, torch.inf, torch.where(field >= 253, 0.0, y))
    return torch.copysign(y, x)


def _blackhole_steps(x: Tensor, steps: int) -> Tensor:
    """Newton steps on the estimate; where zero meets infinity the estimate stays."""
    y = reciprocal_estimate(x)
    settled = torch.zeros_like(x, dtype=torch.bool)
    for _ in range(steps):
        t = fma(x, y, -2.0)
        settled = settled | ~(t < 0)
        y = torch.where(settled, y, multiply(y, -t))
    return y


BLACKHOLE_RECIPROCALS = Reciprocals(
    one_step=lambda x: _blackhole_steps(x, 1),
    two_steps=lambda x: _blackhole_steps(x, 2),
    of_significand=lambda m: _blackhole_steps(m, 1),
)


def reciprocal_bf16_blackhole(x: Tensor) -> Tensor:
    """The estimate with a half in the next place, corrected by the upper half of its error's word."""
    y = float_of(bits_of(reciprocal_estimate(x)) | 0x8000)
    error = fma(x, y, -1.0)
    return float_of(bits_of(y) + ((bits_of(error) & 0xFFFFFFFF) >> 16))


def reciprocal_fp32_blackhole(x: Tensor) -> Tensor:
    """The estimate times 1 + e + e² + e³ with e its error; where that is no number, twice the estimate."""
    y = reciprocal_estimate(x)
    e = fma(-x, y, 1.0)
    t = fma(fma(e, e, e), e, e)
    return fma(torch.where(t.isnan(), 1.0, t.clamp(max=1.0)), y, y)


def _rsqrt_start(x: Tensor) -> Tensor:
    y = float_of(0x5F1110A0 - ((bits_of(x) & 0xFFFFFFFF) >> 1))
    c = multiply(-y, multiply(x, y))
    return multiply(y, fma(c, add(c, 2.2533049), 2.2825186))


def rsqrt(x: Tensor, *, guarded: bool = True) -> Tensor:
    """1/√x by one cubic and one Newton step; ±0 gives ±∞, negative numbers NaN unless unguarded."""
    y = _rsqrt_start(x)
    xy = multiply(x, y)
    root = fma(fma(-y, xy, 1.0), multiply(y, 0.5), y)
    root = torch.where(x == 0, torch.copysign(torch.full_like(x, torch.inf), x), root)
    root = torch.where(x == torch.inf, 0.0, root)
    return torch.where(x < 0, torch.nan, root) if guarded else root


def rsqrt_approx(x: Tensor) -> Tensor:
    """1/√x by a magic constant and one quadratic step, as the norms use it in approximate mode."""
    y, _, t = _root_estimate(x)
    return multiply(y, t)


def sqrt_approx(x: Tensor) -> Tensor:
    """√x by the same step."""
    _, c, t = _root_estimate(x)
    return multiply(c, t)


def _root_estimate(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = float_of(0x5F0B3892 - (bits_of(x) >> 1))
    c = multiply(x, y)
    return y, c, fma(-y, c, 1.89099014875)


def sqrt(x: Tensor, *, guarded: bool = True) -> Tensor:
    """√x; ±0 stays, negative numbers give NaN. Unguarded, −0 gives +0 and negative numbers what the steps make."""
    y = _rsqrt_start(x)
    xy = multiply(x, y)
    root = fma(fma(-y, xy, 1.0), multiply(xy, 0.5), xy)
    root = torch.where(x == torch.inf, x, root)
    return torch.where(x < 0, torch.nan, torch.where(x == 0, x, root)) if guarded else root


_CUBE_ROOT = (float.fromhex("0x1.c09806p0"), -float.fromhex("0x1.403e6cp0"), float.fromhex("0x1.04cdb2p-1"))
_THIRD_OF_A_WORD = -float.fromhex("0x1.555556p-10")  # a third of 2⁻⁸


def _cube_root_start(size: Tensor) -> Tensor:
    """An estimate of 1/∛size: a third of its word, taken in fp32, from a magic word."""
    word = bits_of(size).to(torch.float32)  # rounds to even, as the unit's cast does
    magic = torch.tensor(1418472267.0 / 256.0 + 8388608.0, dtype=torch.float32).item()
    return float_of(bits_of(fma(word, _THIRD_OF_A_WORD, magic)) << 8)


def cube_root_bf16(x: Tensor) -> Tensor:
    size = x.abs()
    y = _cube_root_start(size)
    d = multiply(size, multiply(y, y))
    c = multiply(d, y)
    c0, c1, c2 = _CUBE_ROOT
    t = fma(c, fma(c, c2, c1), c0)
    return rounded(multiply(torch.copysign(d, x), multiply(t, t)))


def cube_root_fp32(x: Tensor) -> Tensor:
    size = x.abs()
    y = _cube_root_start(size)
    c = multiply(multiply(size, y), multiply(y, y))
    c0, c1, c2 = _CUBE_ROOT
    y = multiply(y, fma(c, fma(c, c2, c1), c0))
    d = multiply(size, multiply(y, y))
    t = fma(fma(d, y, -1.0), _THIRD_OF_A_WORD * 256, 1.0)
    return multiply(torch.copysign(d, x), multiply(t, t))


def divide_bf16(a: Tensor, b: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    """a·(1/b), rounded to even; +0 as a divisor gives an infinity of a's sign, NaN for 0/0."""
    a, b = torch.broadcast_tensors(a, b)
    quotient = multiply(a, reciprocals.two_steps(b))
    infinite = torch.where(a == 0, torch.nan, torch.copysign(torch.full_like(a, torch.inf), a))
    return rounded_to_even(torch.where((b == 0) & ~b.signbit(), infinite, quotient))


def divide_fp32(a: Tensor, b: Tensor, reciprocals: Reciprocals = WORMHOLE_RECIPROCALS) -> Tensor:
    """The quotient of the significands with one residual correction, then the difference of the exponents."""
    a, b = torch.broadcast_tensors(a, b)
    one = torch.tensor(127, device=a.device)
    ma, mb = with_exponent_field(a, one), with_exponent_field(b, one)
    r = reciprocals.of_significand(mb)
    q = multiply(ma, r)
    q = fma(fma(q, -mb, ma), r, q)
    ea, eb = exponent_field(a), exponent_field(b)
    exponent = ea - (eb - 127) + exponent_field(q)
    half = (exponent & 0xFFFFFFFF) >> 1
    result = multiply(with_exponent_field(q, half), with_exponent_field(torch.ones_like(q), exponent - half))
    ordinary = (ea >= 1) & (ea < 255) & (eb >= 1) & (eb < 255)
    scale = float_of((bits_of(b) & ~0x7FFFFF) ^ _EXPONENT)
    special = torch.where(b.isnan(), b, multiply(a, scale))
    return torch.where(ordinary, result, special)
