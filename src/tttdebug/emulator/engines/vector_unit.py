# SPDX-License-Identifier: Apache-2.0
"""The vector unit (SFPU): by ttnn's name and chip, the kernel of every function whose steps are modelled.

A kernel takes and gives fp32 values and comes in two forms, because ttnn compiles two: one for a bfloat16 Dest, whose
result the store truncates, and one for an fp32 Dest. The steps are in the files imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from tttdebug.emulator.engines import activations, exponentials, logarithms, reciprocals, trigonometry
from tttdebug.emulator.engines.activations import (
    gelu_approx,
    gelu_bf16,
    sigmoid_bf16,
    sigmoid_fp32,
    silu_bf16,
    silu_fp32,
    square_bf16,
    tanh_bf16,
    tanh_fp32,
)
from tttdebug.emulator.engines.exponentials import (
    LN2,
    LOG2_E,
    SCHRAUDOLPH_OFFSET,
    SCHRAUDOLPH_SLOPE,
    exp2_bf16,
    exp_approx,
    exp_approx_unclamped,
    exp_bf16,
    exp_fp32,
)
from tttdebug.emulator.engines.reciprocals import (
    BLACKHOLE_RECIPROCALS,
    RECIPROCAL_ROUNDED,
    RECIPROCAL_UNROUNDED,
    WORMHOLE_RECIPROCALS,
    Reciprocals,
    reciprocal,
    reciprocal_bf16,
    reciprocal_fp32,
    rsqrt,
    rsqrt_approx,
    sqrt,
)
from tttdebug.emulator.engines.vector_arithmetic import Operand, add, fma, horner, multiply, nearest_away, rounded
from tttdebug.emulator.kernel import Arch

Function = Callable[..., Tensor]
Kernels = dict[str, tuple[Function, Function]]


def _forms(function: Function) -> tuple[Function, Function]:
    """The two forms of a kernel that is told which one it is."""
    return partial(function, fp32_dest=False), partial(function, fp32_dest=True)


def _rounded_form(function: Function) -> tuple[Function, Function]:
    """The two forms of a kernel that only rounds where Dest is bfloat16."""
    return (lambda x: rounded(function(x))), function


def _accurate(unit: Reciprocals) -> Kernels:
    """The kernels that ttnn takes when nothing faster is asked for, on a chip that divides as `unit` does."""

    def dividing(function: Function) -> Function:
        return partial(function, reciprocals=unit)

    return {
        "exp": (exp_bf16, exp_fp32),
        "exp2": (exp2_bf16, exponentials.exp2_fp32),
        "expm1": (exponentials.expm1_bf16, exponentials.expm1_fp32),
        "elu": _forms(exponentials.elu),
        "celu": _forms(exponentials.celu),
        "selu": _forms(exponentials.selu),
        "log": _forms(logarithms.log),
        "log2": _forms(logarithms.log2),
        "log10": _forms(logarithms.log10),
        "log1p": _forms(logarithms.log1p),
        "reciprocal": (reciprocal_bf16, reciprocal_fp32),
        "sqrt": _rounded_form(sqrt),
        "rsqrt": _rounded_form(rsqrt),
        "sqrt_fast": _rounded_form(partial(sqrt, guarded=False)),
        "rsqrt_fast": _rounded_form(partial(rsqrt, guarded=False)),
        "cbrt": (reciprocals.cube_root_bf16, reciprocals.cube_root_fp32),
        "sin": _forms(trigonometry.sine),
        "cos": _forms(trigonometry.cosine),
        "tan": _forms(trigonometry.tangent),
        "sigmoid": (_rounded_form(dividing(sigmoid_bf16))[0], dividing(sigmoid_fp32)),
        "silu": (dividing(silu_bf16), dividing(silu_fp32)),
        "tanh": (tanh_bf16, tanh_fp32),
        "gelu": (gelu_bf16, dividing(activations.gelu_fp32)),
        "gelu_tanh": _forms(activations.gelu_tanh),
        "erf": _forms(dividing(activations.erf)),
        "erfc": (dividing(activations.erfc),) * 2,
        "softplus": _forms(activations.softplus),
        "mish": _forms(dividing(activations.mish)),
        "hardsigmoid": (activations.hardsigmoid,) * 2,
        "hardswish": (activations.hardswish_bf16, activations.hardswish_fp32),
        "hardmish": (activations.hardmish,) * 2,
        "softsign": (dividing(activations.softsign),) * 2,
        "leaky_relu": (activations.leaky_relu,) * 2,
        "log_sigmoid": _forms(activations.log_sigmoid),
        "square": (square_bf16, lambda x: multiply(x, x)),
    }


def _approximate(unit: Reciprocals) -> Kernels:
    """The kernels of ttnn's approximate mode, and of a compute kernel config's inside fused ops."""
    return {
        "exp": _forms(exp_approx),
        "erf": _forms(partial(activations.erf, reciprocals=replace(unit, two_steps=unit.one_step))),
        "rsqrt": _rounded_form(rsqrt_approx),
        "sqrt": _rounded_form(reciprocals.sqrt_approx),
        "gelu": (gelu_approx,) * 2,
        "tanh": (activations.tanh_approx,) * 2,
        "sigmoid": (activations.sigmoid_approx,) * 2,
    }


ACCURATE, APPROXIMATE = _accurate(WORMHOLE_RECIPROCALS), _approximate(WORMHOLE_RECIPROCALS)
_ACCURATE_ON: dict[Arch, Kernels] = {
    Arch.WORMHOLE_B0: ACCURATE,
    Arch.BLACKHOLE: {
        **_accurate(BLACKHOLE_RECIPROCALS),
        "reciprocal": (reciprocals.reciprocal_bf16_blackhole, reciprocals.reciprocal_fp32_blackhole),
        "tanh": (tanh_bf16, partial(tanh_fp32, from_estimate=True)),
        "gelu_tanh": _forms(partial(activations.gelu_tanh, from_estimate=True)),
        "mish": _forms(partial(activations.mish_blackhole, reciprocals=BLACKHOLE_RECIPROCALS)),
    },
}
_APPROXIMATE_ON: dict[Arch, Kernels] = {
    Arch.WORMHOLE_B0: APPROXIMATE,
    Arch.BLACKHOLE: {**_approximate(BLACKHOLE_RECIPROCALS), "gelu": (activations.gelu_approx_blackhole,) * 2},
}


def kernels(arch: Arch, *, approx: bool = False) -> Kernels:
    """By function name the kernel for a bfloat16 Dest and that for an fp32 Dest."""
    return (_APPROXIMATE_ON if approx else _ACCURATE_ON)[arch]


__all__ = [
    "ACCURATE",
    "APPROXIMATE",
    "BLACKHOLE_RECIPROCALS",
    "LN2",
    "LOG2_E",
    "RECIPROCAL_ROUNDED",
    "RECIPROCAL_UNROUNDED",
    "SCHRAUDOLPH_OFFSET",
    "SCHRAUDOLPH_SLOPE",
    "WORMHOLE_RECIPROCALS",
    "Kernels",
    "Operand",
    "Reciprocals",
    "add",
    "exp2_bf16",
    "exp_approx",
    "exp_approx_unclamped",
    "exp_bf16",
    "exp_fp32",
    "fma",
    "gelu_approx",
    "gelu_bf16",
    "horner",
    "kernels",
    "multiply",
    "nearest_away",
    "reciprocal",
    "reciprocal_bf16",
    "reciprocal_fp32",
    "rsqrt",
    "rsqrt_approx",
    "sigmoid_bf16",
    "sigmoid_fp32",
    "silu_bf16",
    "silu_fp32",
    "sqrt",
    "square_bf16",
    "tanh_bf16",
    "tanh_fp32",
]
