# SPDX-License-Identifier: Apache-2.0
"""The mathematics of the rarer functions by ttnn's names; those with parameters take them after their argument.

`functions` merges these tables into its own, whose entries win.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def _flag(condition: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """One where the condition holds and zero elsewhere, in the argument's type."""
    return lambda x: condition(x).to(x.dtype)


def _cube_root(x: Tensor) -> Tensor:
    return torch.copysign(x.abs().pow(1 / 3), x)


def _clamp(x: Tensor, low: float, high: float) -> Tensor:
    return x.clamp(low, high) if low <= high else torch.full_like(x, high)


def _logit(x: Tensor, margin: float) -> Tensor:
    """log(x / (1 - x)); a margin that is not negative keeps x so far from 0 and 1."""
    kept = x if margin < 0 else _clamp(x, margin, 1 - margin)
    return torch.log(kept / (1 - kept))


def _selu(x: Tensor, scale: float, alpha: float) -> Tensor:
    return scale * torch.where(x > 0, x, alpha * torch.expm1(x))


UNARY: dict[str, Callable[..., Tensor]] = {
    "acos": torch.acos,
    "acosh": torch.acosh,
    "asin": torch.asin,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "bitwise_not": torch.bitwise_not,
    "cbrt": _cube_root,
    "ceil": torch.ceil,
    "celu": F.celu,
    "clamp": _clamp,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "deg2rad": torch.deg2rad,
    "digamma": torch.digamma,
    "elu": F.elu,
    "eqz": _flag(lambda x: x == 0),
    "erfc": torch.erfc,
    "erfinv": torch.erfinv,
    "fill": torch.full_like,
    "floor": torch.floor,
    "frac": torch.frac,
    "gez": _flag(lambda x: x >= 0),
    "gtz": _flag(lambda x: x > 0),
    "hardmish": lambda x: x * (x * 0.5 + 1).clamp(0, 1),
    "hardshrink": F.hardshrink,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": _clamp,
    "heaviside": lambda x, value: torch.heaviside(x, torch.tensor(value, dtype=x.dtype, device=x.device)),
    "i0": torch.i0,
    "i1": torch.special.i1,
    "isfinite": _flag(torch.isfinite),
    "isinf": _flag(torch.isinf),
    "isnan": _flag(torch.isnan),
    "isneginf": _flag(torch.isneginf),
    "isposinf": _flag(torch.isposinf),
    "leaky_relu": F.leaky_relu,
    "lez": _flag(lambda x: x <= 0),
    "lgamma": torch.lgamma,
    "log10": torch.log10,
    "log2": torch.log2,
    "log_sigmoid": F.logsigmoid,
    "logical_not": _flag(lambda x: x == 0),
    "logit": _logit,
    "ltz": _flag(lambda x: x < 0),
    "mish": F.mish,
    "nez": _flag(lambda x: x != 0),
    "power": lambda x, exponent: x.pow(exponent),
    "rad2deg": torch.rad2deg,
    "rdiv": lambda x, value: value / x,
    "relu_max": lambda x, limit: F.relu(x.clamp(max=limit)),
    "relu_min": lambda x, limit: x.clamp(min=limit),
    "round": lambda x, decimals: torch.round(x, decimals=int(decimals)),
    "rpow": lambda x, base: torch.pow(base, x),
    "selu": _selu,
    "sign": torch.sign,
    "signbit": _flag(torch.signbit),
    "sin": torch.sin,
    "sinh": torch.sinh,
    "softcap": lambda x, beta: beta * torch.tanh(x / beta),
    "softplus": F.softplus,
    "softshrink": F.softshrink,
    "softsign": F.softsign,
    "tan": torch.tan,
    "tanhshrink": lambda x: x - torch.tanh(x),
    "threshold": F.threshold,
    "trunc": torch.trunc,
}


def _operands(a: Tensor, b: Tensor | float) -> tuple[Tensor, Tensor]:
    return a, b if isinstance(b, Tensor) else torch.tensor(b, dtype=a.dtype, device=a.device)


def _compare(comparison: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor | float], Tensor]:
    """One where the comparison holds, in the first operand's type."""
    return lambda a, b: comparison(*_operands(a, b)).to(a.dtype)


def _of_tensors(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor | float], Tensor]:
    return lambda a, b: function(*_operands(a, b))


def _quotient_or_zero(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, 0, a / b)


BINARY: dict[str, Callable[[Tensor, Tensor | float], Tensor]] = {
    "atan2": _of_tensors(torch.atan2),
    "bitwise_and": _of_tensors(torch.bitwise_and),
    "bitwise_left_shift": _of_tensors(torch.bitwise_left_shift),
    "bitwise_or": _of_tensors(torch.bitwise_or),
    "bitwise_right_shift": _of_tensors(torch.bitwise_right_shift),
    "bitwise_xor": _of_tensors(torch.bitwise_xor),
    "div_no_nan": _of_tensors(_quotient_or_zero),
    "eq": _compare(torch.eq),
    "floor_div": _of_tensors(torch.floor_divide),
    "fmod": _of_tensors(torch.fmod),
    "gcd": _of_tensors(torch.gcd),
    "ge": _compare(torch.ge),
    "gt": _compare(torch.gt),
    "hypot": _of_tensors(torch.hypot),
    "lcm": _of_tensors(torch.lcm),
    "ldexp": _of_tensors(lambda a, b: a * torch.exp2(b)),
    "le": _compare(torch.le),
    "logaddexp": _of_tensors(torch.logaddexp),
    "logaddexp2": _of_tensors(torch.logaddexp2),
    "logical_and": _compare(torch.logical_and),
    "logical_or": _compare(torch.logical_or),
    "logical_xor": _compare(torch.logical_xor),
    "lt": _compare(torch.lt),
    "maximum": _of_tensors(torch.maximum),
    "minimum": _of_tensors(torch.minimum),
    "ne": _compare(torch.ne),
    "pow": _of_tensors(torch.pow),
    "prelu": _of_tensors(lambda a, b: torch.where(a >= 0, a, a * b)),
    "remainder": _of_tensors(torch.remainder),
    "squared_difference": _of_tensors(lambda a, b: (a - b) * (a - b)),
    "trunc_div": _of_tensors(lambda a, b: torch.div(a, b, rounding_mode="trunc")),
    "xlogy": _of_tensors(torch.xlogy),
}


PARAMETERS: dict[str, int] = {
    **dict.fromkeys(("celu", "elu", "fill", "hardshrink", "heaviside", "leaky_relu", "logit", "power", "rdiv"), 1),
    **dict.fromkeys(("relu_max", "relu_min", "round", "rpow", "softcap", "softshrink"), 1),
    **dict.fromkeys(("clamp", "hardtanh", "selu", "softplus", "threshold"), 2),
}
"""How many parameters follow the argument of a function of UNARY, where any do."""
