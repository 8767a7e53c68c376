# SPDX-License-Identifier: Apache-2.0
"""The vector unit's logarithms: ttnn's kernels for log, log2, log10 and log(1 + x), step by step.

A number is split into m in [¾, 1½) and a power of two, kept as e = k·2²³ so that it stays in its place in the word.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines.exponentials import LN2
from tttdebug.emulator.engines.vector_arithmetic import add, bits_of, float_of, fma, horner, multiply, rounded
from tttdebug.emulator.rounding import flush_denormals

_THREE_QUARTERS, _MINUS_FOUR = 0x3F400000, 0xC0800000
_BF16_TERMS = (-0.25, float.fromhex("0x1.744p-2"), float.fromhex("-0x1.008p-1"))
_FP32_TERMS = (
    *(float.fromhex(c) for c in ("-0x1.92cp-5", "0x1.b84p-4", "-0x1.0c4p-3", "0x1.274p-3", "-0x1.55p-3")),
    *(float.fromhex(c) for c in ("0x1.998p-3", "-0x1.00001ap-2", "0x1.555572p-2")),
    -0.5,
)
PER_LN2, PER_LN10 = 1.4426950408889634, 0.43429448190325182


def _split(x: Tensor) -> Tensor:
    """k·2²³ as a signed integer, with x = 2^k·m and m in [¾, 1½)."""
    e = (bits_of(x) - _THREE_QUARTERS) & ~0x7FFFFF
    return torch.where((e & 0xFFFFFFFF) >= 1 << 31, (e & 0xFFFFFFFF) - (1 << 32), e & 0xFFFFFFFF)


def _of_significand(m: Tensor, *, fp32_dest: bool) -> Tensor:
    """log(1 + m)."""
    return fma(horner(m, *(_FP32_TERMS if fp32_dest else _BF16_TERMS)), multiply(m, m), m)


def _log(x: Tensor, *, fp32_dest: bool, per: float | None = None) -> Tensor:
    """The logarithm, times `per`; to base two the exponent's part stays exact."""
    x = flush_denormals(x)
    e = _split(x)
    r = _of_significand(add(float_of(bits_of(x) - e), -1.0), fp32_dest=fp32_dest)
    k = e.to(torch.float32)
    if per == PER_LN2:
        y = fma(k, 2.0**-23, multiply(r, per))
    else:
        y = fma(k, LN2 * 2.0**-23, r)
        y = y if per is None else multiply(y, per)
    y = torch.where(x == 0, -torch.inf, y)
    y = torch.where((x == torch.inf) | x.isnan(), x, y)
    y = torch.where(x.signbit() & (x != 0), torch.nan, y)
    return y if fp32_dest else rounded(y)


def log(x: Tensor, *, fp32_dest: bool) -> Tensor:
    return _log(x, fp32_dest=fp32_dest)


def log2(x: Tensor, *, fp32_dest: bool) -> Tensor:
    return _log(x, fp32_dest=fp32_dest, per=PER_LN2)


def log10(x: Tensor, *, fp32_dest: bool) -> Tensor:
    return _log(x, fp32_dest=fp32_dest, per=PER_LN10)


def log1p(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """log(1 + x), x itself scaled beside the rounded 1 + x so that what the sum lost stays."""
    u = add(x, 1.0)
    e = _split(u)
    shrink = fma(float_of(_MINUS_FOUR - e), -0.25, -1.0)
    r = _of_significand(add(float_of(bits_of(x) - e), shrink), fp32_dest=fp32_dest)
    y = fma(e.to(torch.float32), LN2 * 2.0**-23, r)
    y = torch.where(u.isfinite(), y, u)
    y = torch.where(u.signbit(), torch.nan, y)
    return y if fp32_dest else rounded(y)
