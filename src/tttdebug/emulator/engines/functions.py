# SPDX-License-Identifier: Apache-2.0
"""The mathematics of elementwise functions and reductions, by ttnn's names, in whatever precision they are given."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tttdebug.emulator.engines import further_functions

UNARY: dict[str, Callable[..., Tensor]] = {
    "identity": lambda x: x,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "reciprocal": torch.reciprocal,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "sqrt_fast": torch.sqrt,
    "rsqrt_fast": torch.rsqrt,
    "square": torch.square,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "relu": F.relu,
    "relu6": F.relu6,
    "neg": torch.neg,
    "abs": torch.abs,
    "erf": torch.erf,
}

BINARY: dict[str, Callable[[Tensor, Tensor | float], Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "rsub": lambda a, b: b - a,
    "multiply": torch.mul,
    "divide": torch.div,
}

REDUCTIONS: dict[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = {
    "sum": lambda x, dims: x.sum(dims, keepdim=True),
    "max": lambda x, dims: x.amax(dims, keepdim=True),
    "min": lambda x, dims: x.amin(dims, keepdim=True),
}

UNARY.update({name: f for name, f in further_functions.UNARY.items() if name not in UNARY})
BINARY.update({name: f for name, f in further_functions.BINARY.items() if name not in BINARY})
