# SPDX-License-Identifier: Apache-2.0
"""The vector unit's multiply-add and product of vector_arithmetic.py compiled into one pass, for tensors on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit, vectorize
from torch import Tensor

from tttdebug.emulator.engines.dest_register import as_bits, as_float
from tttdebug.emulator.rounding import SMALLEST_NORMAL

_SMALLEST = np.float32(SMALLEST_NORMAL)
_LARGEST_ABSORBED = SMALLEST_NORMAL * (1 - 2.0**-25)
_SHIFTED_TWICE = 2.0**28
_NAN, _NEGATIVE_NAN = np.int32(0x7F800001), np.int32(-0x7FFFFF)


def fma(x: Tensor | float, y: Tensor | float, z: Tensor | float) -> Tensor:
    """See vector_arithmetic.fma."""
    return _elementwise(_fma, x, y, z)


def multiply(x: Tensor | float, y: Tensor | float) -> Tensor:
    """See vector_arithmetic.multiply."""
    return _elementwise(_multiply, x, y)


def _elementwise(function: Callable[..., Any], *values: Tensor | float) -> Tensor:
    operands = (v.detach().to(torch.float32).numpy() if isinstance(v, Tensor) else np.float32(v) for v in values)
    with np.errstate(all="ignore"):  # infinite and undefined results are the unit's own
        return torch.from_numpy(np.asarray(function(*operands)))


@njit(inline="always")
def _flushed(x):  # type: ignore[no-untyped-def]
    return np.float64(0.0) if abs(x) < _SMALLEST else np.float64(x)


@njit(inline="always")
def _exponent(x):  # type: ignore[no-untyped-def]
    return ((as_bits(x) >> 52) & 2047) - 1023


@njit(inline="always")
def _to_odd(x):  # type: ignore[no-untyped-def]
    """An integer: x where it is one, else the odd one of its two neighbours; zero when x is less than one."""
    whole = math.trunc(x) if abs(x) < 2.0**52 else x
    half = whole * 0.5
    even = half == np.floor(half)
    return whole + math.copysign(1.0, x) if whole != x and whole != 0.0 and even else np.float64(whole)


@vectorize(["float32(float32, float32, float32)"], cache=True)
def _fma(x, y, z):  # type: ignore[no-untyped-def]
    xd, yd, zd = _flushed(x), _flushed(y), _flushed(z)
    product, exponent = xd * yd, _exponent(xd) + _exponent(yd)
    if exponent >= 128 and product != 0.0 and product == product:
        product = math.copysign(np.inf, product)
    if exponent < -127:
        product, exponent = 0.0, -300
    exponent = min(max(exponent, _exponent(zd), -300), 512)
    unit, per_unit = as_float(np.int64(997 + exponent) << 52), as_float(np.int64(1049 - exponent) << 52)
    units = _to_odd(product * per_unit) + _to_odd(zd * per_unit)
    size = abs(units)
    if size >= _SHIFTED_TWICE and size < np.inf:
        quarter = np.floor(size * 0.25)
        if size % 2.0 != 0.0 and quarter % 2.0 == 0.0:
            quarter += 1.0
        units = math.copysign(quarter * 4.0, units)
    total = units * unit
    if total != total:
        only_z = z != z and x == x and y == y
        negative = math.copysign(1.0, zd) < 0 if only_z else math.copysign(1.0, xd) * math.copysign(1.0, yd) < 0
        return as_float(_NEGATIVE_NAN if negative else _NAN)
    return np.float32(0.0) if abs(total) < _LARGEST_ABSORBED else np.float32(total)


@vectorize(["float32(float32, float32)"], cache=True)
def _multiply(x, y):  # type: ignore[no-untyped-def]
    xd, yd = _flushed(x), _flushed(y)
    product = xd * yd
    value = np.float32(0.0) if abs(product) < _LARGEST_ABSORBED else np.float32(product)
    nan = _NEGATIVE_NAN if as_bits(xd) ^ as_bits(yd) < 0 else _NAN
    return value if product == product else as_float(nan)
