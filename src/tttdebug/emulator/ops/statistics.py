# SPDX-License-Identifier: Apache-2.0
"""Products, running sums, variances, and sums over leading dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.formats import FLOAT32
from tttdebug.emulator.kernel import ELTWISE_FP32, WormholeComputeKernelConfig, reduction_default, resolve_kernel
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile, result
from tttdebug.emulator.ops.eltwise import apply_binary
from tttdebug.emulator.plans import BinaryPlan, ReducePlan
from tttdebug.emulator.tensor import Tensor


def _dims(op: str, tensor: Tensor, dim: int | Sequence[int] | None) -> tuple[int, ...]:
    rank = len(tensor.shape)
    given = range(rank) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    for d in given:
        if not -rank <= d < rank:
            raise EmulatorError(f"{op}: dim={d} of a tensor with {rank} dimensions, {tensor.shape}")
    return tuple(sorted({d % rank for d in given}))


@operation("ttnn.prod", accepts="memory_config", only={"output_tensor": None, "dims": None})
def prod(input_tensor: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The product along `dim` (of everything when None), multiplied in fp32."""
    op = "ttnn.prod"
    require_float(op, input_tensor=input_tensor)
    dims = _dims(op, input_tensor, dim)
    values = input_tensor.values.to(torch.float32)
    for d in dims:
        values = values.prod(d, keepdim=True)
    values = values if keepdim else values.squeeze(dims)
    return result(device_of(input_tensor).engine.repack(values, input_tensor.dtype.format), input_tensor)


def _running(op: str, x: Tensor, dim: int, dtype: DataType | None, backwards: bool, function: Callable) -> Tensor:
    require_float(op, input=x)
    (d,) = _dims(op, x, dim)
    values = x.values.to(torch.float32)
    values = function(values.flip(d), d).flip(d) if backwards else function(values, d)
    target = dtype or x.dtype
    return result(device_of(x).engine.repack(values, target.format), x, target)


@operation("ttnn.cumsum", accepts="memory_config out disable_compensated_sum")
def cumsum(input: Tensor, dim: int, *, dtype: DataType | None = None, reverse_order: bool = False) -> Tensor:
    """Sums of the elements up to each one along `dim`, added in fp32."""
    return _running("ttnn.cumsum", input, dim, dtype, reverse_order, torch.cumsum)


@operation("ttnn.cumprod", accepts="memory_config out")
def cumprod(input_tensor: Tensor, dim: int, *, dtype: DataType | None = None, reverse_order: bool = False) -> Tensor:
    """Products of the elements up to each one along `dim`, multiplied in fp32."""
    return _running("ttnn.cumprod", input_tensor, dim, dtype, reverse_order, torch.cumprod)


def _spread(name: str, *, root: bool) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts="memory_config sub_core_grids")
    def spread(
        input_tensor: Tensor,
        dim: int | Sequence[int] | None = None,
        keepdim: bool = False,
        *,
        compute_kernel_config: WormholeComputeKernelConfig | None = None,
        scalar: float = 1.0,
        correction: bool = True,
    ) -> Tensor:
        require_float(op, input_tensor=input_tensor)
        device, dims = device_of(input_tensor), _dims(op, input_tensor, dim)
        engine = device.engine
        kernel = resolve_kernel(op, compute_kernel_config, reduction_default(device.arch()))
        count = math.prod(input_tensor.shape[d] for d in dims)
        if correction and count < 2:
            raise EmulatorError(f"{op}: correction=True needs two elements or more, dim={dim} has {count}")
        x = engine.cast(input_tensor.values, input_tensor.dtype.format, FLOAT32)
        mean = engine.reduce(x, ReducePlan("sum", dims, kernel, FLOAT32, 1 / count))
        off = engine.binary(x, mean, BinaryPlan("subtract", "sfpu", ELTWISE_FP32, FLOAT32, FLOAT32, FLOAT32))
        squares = engine.binary(off, off, BinaryPlan("multiply", "sfpu", ELTWISE_FP32, FLOAT32, FLOAT32, FLOAT32))
        plan = ReducePlan("sum", dims, kernel, FLOAT32, 1 / (count - correction))
        values = engine.reduce(squares, plan)
        values = (values.sqrt() if root else values) * scalar
        values = engine.cast(values, FLOAT32, input_tensor.dtype.format)
        return result(values if keepdim else values.squeeze(dims), input_tensor, plan=plan)

    spread.__name__ = spread.__qualname__ = name
    what = "standard deviation" if root else "variance"
    spread.__doc__ = f"The {what} along `dim` in fp32, over one less than the count unless correction=False."
    return spread


var = _spread("var", root=False)
std = _spread("std", root=True)


@operation("ttnn.experimental.fast_reduce_nc", accepts="memory_config sub_core_grids output compute_kernel_config")
def fast_reduce_nc(input: Tensor, *, dims: Sequence[int] = ()) -> Tensor:
    """The sum over leading dimensions (not the last two), tile after tile, each sum packed."""
    op = "ttnn.experimental.fast_reduce_nc"
    require_tile(op, input=input)
    for d in _dims(op, input, list(dims)):
        if d >= len(input.shape) - 2:
            raise EmulatorError(f"{op}: dims={list(dims)} of {input.shape}; only dimensions before the last two")
        first, *others = (result(part, input) for part in input.values.split(1, d))
        for other in others:
            first = apply_binary(op, "add", first, other, fast=True)
        input = first
    return input
