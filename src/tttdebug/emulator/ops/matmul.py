# SPDX-License-Identifier: Apache-2.0
"""Matrix products: arguments, the kernel and the K blocking that ttnn chooses, the activation behind them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from tttdebug.emulator.device import Device
from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import Kernel, MathFidelity, WormholeComputeKernelConfig, full_fidelity, resolve_kernel
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile
from tttdebug.emulator.ops.eltwise import FusedFunction, as_activation
from tttdebug.emulator.placement import CoreGrid
from tttdebug.emulator.plans import MatmulPlan, UnaryPlan
from tttdebug.emulator.programs import MatmulProgram, Product, choose_blocking
from tttdebug.emulator.tensor import Tensor

_ACCEPTED = "memory_config optional_output_tensor sub_device_id"
_REFUSED: dict[str, object] = {"output_tile": None, "global_cb": None, "prefetcher_pipes": []}


def _product(name: str, *, takes_bias: bool) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts=_ACCEPTED, only={**_REFUSED, "in0_column_offset": None} if takes_bias else _REFUSED)
    def product(
        input_tensor_a: Tensor,
        input_tensor_b: Tensor,
        *,
        bias: Tensor | None = None,
        transpose_a: bool = False,
        transpose_b: bool = False,
        dtype: DataType | None = None,
        program_config: MatmulProgram | None = None,
        activation: FusedFunction | None = None,
        compute_kernel_config: WormholeComputeKernelConfig | None = None,
        core_grid: CoreGrid | None = None,
    ) -> Tensor:
        a, b, output = input_tensor_a, input_tensor_b, dtype or input_tensor_a.dtype
        require_tile(op, input_tensor_a=a, input_tensor_b=b)
        require_float(op, input_tensor_a=a, input_tensor_b=b, bias=bias)
        left = a.values.mT if transpose_a else a.values
        right = b.values.mT if transpose_b else b.values
        check_shapes(op, left, right, bias, takes_bias=takes_bias)
        device = device_of(a)
        kernel = resolve_kernel(
            op, compute_kernel_config, _default_kernel(device, a, b, output, program_config, core_grid)
        )
        fused = getattr(program_config, "fused_activation", None)
        if core_grid is not None and activation is not None:
            fused, activation = activation, None
        batched = math.prod(right.shape[:-2]) > 1
        rows = left.shape[-2] if batched else math.prod(left.shape[:-1])
        sizes = Product(rows, left.shape[-1], right.shape[-1], batched, bias is not None)
        plan = MatmulPlan(
            kernel,
            choose_blocking(op, sizes, kernel, device.grid, program_config, core_grid, a.memory_config()),
            a.dtype.format,
            b.dtype.format,
            output.format,
            as_activation(op, fused) if fused is not None else None,
        )
        if not batched:
            right = right.reshape(right.shape[-2:])
        row = None if bias is None else bias.values.reshape(-1)
        values = device.engine.matmul(left, right, row, plan)
        if activation is not None:
            values = device.engine.unary(values, UnaryPlan(as_activation(op, activation), output.format))
        return Tensor(values, output, a.layout, device, plan=plan)

    product.__name__ = product.__qualname__ = name
    bias = " + bias" if takes_bias else ""
    product.__doc__ = f"input_tensor_a @ input_tensor_b{bias} over the last two dimensions, then `activation`."
    return product


linear = _product("linear", takes_bias=True)
matmul = _product("matmul", takes_bias=False)


def check_shapes(op: str, left: torch.Tensor, right: torch.Tensor, bias: Tensor | None, *, takes_bias: bool) -> None:
    if left.ndim < 2 or right.ndim < 2 or left.shape[-1] != right.shape[-2]:
        raise EmulatorError(
            f"{op}: {list(left.shape)} @ {list(right.shape)} do not multiply; the last size of the first must be the "
            "second-last of the second"
        )
    batches = zip(reversed(left.shape[:-2]), reversed(right.shape[:-2]), strict=False)
    if any(m != n and 1 not in (m, n) for m, n in batches):
        raise EmulatorError(f"{op}: batches of {list(left.shape)} and {list(right.shape)} do not broadcast")
    if bias is not None and not takes_bias:
        raise EmulatorError(f"{op}: there is no argument 'bias'; ttnn.linear takes one")
    if bias is not None and bias.logical_volume() != right.shape[-1]:
        raise EmulatorError(f"{op}: bias has {bias.shape}; it must be one row of {right.shape[-1]}")


def _default_kernel(
    device: Device, a: Tensor, b: Tensor, output: DataType, program: MatmulProgram | None, core_grid: CoreGrid | None
) -> Kernel:
    """What a matrix product takes without a compute kernel config."""
    fp32 = output is DataType.FLOAT32
    if a.dtype is b.dtype is DataType.FLOAT32:
        fidelity = full_fidelity(device.arch())
    elif program is None and core_grid is None and not (a.dtype.is_block and b.dtype.is_block):
        fidelity = MathFidelity.HiFi2
    else:
        fidelity = MathFidelity.LoFi
    return Kernel(fidelity, fp32_dest=fp32, l1_acc=not fp32)
