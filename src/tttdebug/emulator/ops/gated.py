# SPDX-License-Identifier: Apache-2.0
"""Gated linear units and gelu of a biased input: composites, each step packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import device_of, operation, require_float, result
from tttdebug.emulator.ops.data_movement import rearranged
from tttdebug.emulator.ops.eltwise import FusedFunction, GeluVariant, apply_binary, as_activation
from tttdebug.emulator.plans import Activation, UnaryPlan
from tttdebug.emulator.tensor import Tensor


def _gated(op: str, x: Tensor, dim: int, gate: Activation) -> Tensor:
    """The first half along the last dimension times a function of the second."""
    require_float(op, input_tensor=x)
    last = len(x.shape) - 1
    if dim not in (-1, last) or x.shape[-1] % 2:
        raise EmulatorError(f"{op}: dim={dim} of {x.shape}; only the last dimension, of even size")
    first, second = (rearranged(half, x) for half in x.data.chunk(2, -1))
    form = x.dtype.format
    opened = result(device_of(x).engine.unary(second.values, UnaryPlan(gate, form)), second)
    return apply_binary(op, "multiply", first, opened)


def _unit(name: str, function: str) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts="memory_config")
    def unit(input_tensor: Tensor, dim: int = -1) -> Tensor:
        return _gated(op, input_tensor, dim, Activation(function))

    unit.__name__ = unit.__qualname__ = name
    unit.__doc__ = f"The first half times the {function} of the second."
    return unit


for _name, _function in {"glu": "sigmoid", "reglu": "relu", "swiglu": "silu"}.items():
    _unit(_name, _function)


@operation("ttnn.geglu", accepts="memory_config")
def geglu(input_tensor: Tensor, dim: int = -1, *, variant: GeluVariant = GeluVariant.Accurate) -> Tensor:
    """The first half times the gelu of the second."""
    function = "gelu_tanh" if variant is GeluVariant.Tanh else "gelu"
    return _gated("ttnn.geglu", input_tensor, dim, Activation(function, approx=variant is GeluVariant.FastLut))


@operation("ttnn.bias_gelu", accepts="memory_config output_tensor sub_core_grids sub_device_id")
def bias_gelu(
    input_tensor_a: Tensor,
    input_tensor_b: Tensor | float,
    *,
    fast_and_approximate_mode: bool = False,
    dtype: DataType | None = None,
    activations: Sequence[FusedFunction] = (),
    input_tensor_a_activations: Sequence[FusedFunction] = (),
    input_tensor_b_activations: Sequence[FusedFunction] = (),
) -> Tensor:
    """gelu(a + b)."""
    op = "ttnn.bias_gelu"
    require_float(op, input_tensor_a=input_tensor_a)
    total = apply_binary(
        op,
        "add",
        input_tensor_a,
        input_tensor_b,
        dtype=dtype,
        on_a=input_tensor_a_activations,
        on_b=input_tensor_b_activations,
    )
    for function in (
        Activation("gelu", approx=fast_and_approximate_mode),
        *(as_activation(op, f) for f in activations),
    ):
        plan = UnaryPlan(function, total.dtype.format)
        total = result(device_of(total).engine.unary(total.values, plan), total, plan=plan)
    return total
