# SPDX-License-Identifier: Apache-2.0
"""Ops of three operands: computed in fp32, rounded once when they are packed, as the vector unit's kernels do."""

from __future__ import annotations

import torch

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.formats import FLOAT32
from tttdebug.emulator.kernel import ELTWISE_FP32
from tttdebug.emulator.operation import device_of, operation, require_float, result
from tttdebug.emulator.ops.eltwise import apply_binary
from tttdebug.emulator.plans import BinaryPlan
from tttdebug.emulator.tensor import Tensor

Operand = Tensor | float


class _InDest:
    """Arithmetic on fp32 values as Dest holds them; `pack` rounds to the output's data type, ties to even."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.engine = device_of(like).engine

    def of(self, operand: Operand) -> torch.Tensor:
        if isinstance(operand, Tensor):
            return operand.values.to(torch.float32)
        return torch.full((1,), float(operand), device=self.like.values.device)

    def compute(self, function: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.engine.binary(a, b, BinaryPlan(function, "sfpu", ELTWISE_FP32, FLOAT32, FLOAT32, FLOAT32))

    def pack(self, values: torch.Tensor) -> Tensor:
        form = self.like.dtype.format
        packed = values if form is FLOAT32 else self.engine.cast(values, FLOAT32, form)
        return result(packed, self.like)


def _checked(op: str, **operands: Operand) -> _InDest:
    tensors = {key: operand for key, operand in operands.items() if isinstance(operand, Tensor)}
    require_float(op, **tensors)
    try:
        torch.broadcast_shapes(*(tuple(tensor.shape) for tensor in tensors.values()))
    except RuntimeError:
        shapes = ", ".join(f"{key} {tensor.shape}" for key, tensor in tensors.items())
        raise EmulatorError(f"{op}: shapes do not broadcast: {shapes}") from None
    return _InDest(next(iter(tensors.values())))


@operation("ttnn.addcmul", accepts="memory_config output_tensor")
def addcmul(input_a: Tensor, input_b: Tensor, input_c: Tensor, *, value: float = 1.0) -> Tensor:
    """a + value·b·c."""
    dest = _checked("ttnn.addcmul", input_a=input_a, input_b=input_b, input_c=input_c)
    product = dest.compute("multiply", dest.compute("multiply", dest.of(input_b), dest.of(input_c)), dest.of(value))
    return dest.pack(dest.compute("add", dest.of(input_a), product))


@operation("ttnn.addcdiv", accepts="memory_config output_tensor")
def addcdiv(input_a: Tensor, input_b: Tensor, input_c: Tensor, *, value: float = 1.0) -> Tensor:
    """a + value·b/c."""
    dest = _checked("ttnn.addcdiv", input_a=input_a, input_b=input_b, input_c=input_c)
    quotient = dest.compute("multiply", dest.compute("divide", dest.of(input_b), dest.of(input_c)), dest.of(value))
    return dest.pack(dest.compute("add", dest.of(input_a), quotient))


@operation("ttnn.lerp", accepts="memory_config output_tensor")
def lerp(input: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    """input + weight·(end − input)."""
    dest = _checked("ttnn.lerp", input=input, end=end, weight=weight)
    way = dest.compute("subtract", dest.of(end), dest.of(input))
    return dest.pack(dest.compute("add", dest.of(input), dest.compute("multiply", dest.of(weight), way)))


@operation(
    "ttnn.mac", accepts="memory_config output_tensor sub_core_grids", only=dict.fromkeys(("value", "value1", "value2"))
)
def mac(input_tensor_a: Tensor, input_tensor_b: Tensor | float, input_tensor_c: Tensor | float) -> Tensor:
    """a·b + c."""
    dest = _checked("ttnn.mac", a=input_tensor_a, b=input_tensor_b, c=input_tensor_c)
    product = dest.compute("multiply", dest.of(input_tensor_a), dest.of(input_tensor_b))
    return dest.pack(dest.compute("add", product, dest.of(input_tensor_c)))


@operation("ttnn.snake_beta", accepts="memory_config output_tensor")
def snake_beta(input_tensor: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """x + sin²(alpha·x) / beta."""
    dest = _checked("ttnn.snake_beta", input_tensor=input_tensor, alpha=alpha, beta=beta)
    sine = torch.sin(dest.compute("multiply", dest.of(alpha), dest.of(input_tensor)))
    wave = dest.compute("divide", dest.compute("multiply", sine, sine), dest.of(beta))
    return dest.pack(dest.compute("add", dest.of(input_tensor), wave))


@operation("ttnn.where", accepts="memory_config output_tensor sub_core_grids")
def where(predicate: Tensor, true_value: Tensor | float, false_value: Tensor | float) -> Tensor:
    """The first value where the predicate is not zero, the second elsewhere."""
    op = "ttnn.where"
    like = next((v for v in (true_value, false_value) if isinstance(v, Tensor)), predicate)
    values: list[torch.Tensor] = []
    for key, value in (("true_value", true_value), ("false_value", false_value)):
        if isinstance(value, Tensor):
            if value.dtype.is_float != like.dtype.is_float:
                raise EmulatorError(f"{op}: {key} is {value.dtype}, the other {like.dtype}; typecast one of them")
            values.append(value.values)
        elif isinstance(value, (int, float)):
            values.append(torch.tensor(value, dtype=like.values.dtype, device=like.values.device))
        else:
            raise EmulatorError(f"{op}: {key}={value!r}; give a tensor or a number")
    try:
        chosen = torch.where(predicate.values != 0, values[0], values[1])
    except RuntimeError as error:
        raise EmulatorError(f"{op}: predicate {predicate.shape} does not broadcast with the values: {error}") from None
    return result(device_of(predicate).engine.repack(chosen, like.dtype.format), like)


def _clamp(op: str, x: Tensor, low: Operand | None, high: Operand | None) -> Tensor:
    if low is None and high is None:
        raise EmulatorError(f"{op}: give min or max")
    for function, limit in (("maximum", low), ("minimum", high)):
        if limit is not None:
            x = apply_binary(op, function, x, limit)
    return x


@operation("ttnn.clamp", accepts="memory_config output_tensor")
def clamp(input_tensor: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Tensor:
    """Not less than min, not more than max; each a number, a tensor or None."""
    return _clamp("ttnn.clamp", input_tensor, min, max)


@operation("ttnn.clip", accepts="memory_config")
def clip(input_tensor: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Tensor:
    """Not less than min, not more than max; each a number, a tensor or None."""
    return _clamp("ttnn.clip", input_tensor, min, max)
