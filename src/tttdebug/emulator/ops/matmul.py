# SPDX-License-Identifier: Apache-2.0
"""Matrix products: arguments, the kernel and the K blocking that ttnn chooses, the activation behind them."""

from __future__ import annotations

import math

from tttdebug.emulator.device import Device
from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import Kernel, MathFidelity, WormholeComputeKernelConfig, full_fidelity, resolve_kernel
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile, result
from tttdebug.emulator.ops.eltwise import FusedFunction, as_activation
from tttdebug.emulator.placement import CoreGrid
from tttdebug.emulator.plans import MatmulPlan, UnaryPlan
from tttdebug.emulator.programs import MatmulProgram, Product, choose_blocking
from tttdebug.emulator.tensor import Tensor

_REFUSED: dict[str, object] = {
    "output_tile": None,
    "global_cb": None,
    "prefetcher_pipes": [],
    "in0_column_offset": None,
}


@operation("ttnn.linear", only=_REFUSED)
def linear(
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
    """input_tensor_a @ input_tensor_b + bias, then `activation`."""
    return _matmul(
        "ttnn.linear", input_tensor_a, input_tensor_b, bias, transpose_a, transpose_b, dtype, program_config, activation,
        compute_kernel_config, core_grid,
    )  # fmt: skip


@operation("ttnn.matmul", only=_REFUSED)
def matmul(
    input_tensor_a: Tensor,
    input_tensor_b: Tensor,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    dtype: DataType | None = None,
    program_config: MatmulProgram | None = None,
    activation: FusedFunction | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    core_grid: CoreGrid | None = None,
) -> Tensor:
    """input_tensor_a @ input_tensor_b over the last two dimensions, batches as ttnn broadcasts them."""
    return _matmul(
        "ttnn.matmul", input_tensor_a, input_tensor_b, None, transpose_a, transpose_b, dtype, program_config, activation,
        compute_kernel_config, core_grid,
    )  # fmt: skip


def _matmul(
    op: str,
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    transpose_a: bool,
    transpose_b: bool,
    dtype: DataType | None,
    program: MatmulProgram | None,
    activation: FusedFunction | None,
    config: WormholeComputeKernelConfig | None,
    core_grid: CoreGrid | None,
) -> Tensor:
    require_tile(op, input_tensor_a=a, input_tensor_b=b)
    require_float(op, input_tensor_a=a, input_tensor_b=b, bias=bias)
    left = a.values.mT if transpose_a else a.values
    right = b.values.mT if transpose_b else b.values
    batched = math.prod(right.shape[:-2]) > 1
    if left.shape[-1] != right.shape[-2]:
        raise EmulatorError(
            f"{op}: {list(left.shape)} @ {list(right.shape)}: inner sizes {left.shape[-1]} and {right.shape[-2]} differ"
        )
    device, output = device_of(a), dtype or a.dtype
    kernel = resolve_kernel(op, config, _default_kernel(device, a, b, output, program, core_grid))
    fused = getattr(program, "fused_activation", None)
    if core_grid is not None and activation is not None:
        fused, activation = activation, None
    rows = left.shape[-2] if batched else math.prod(left.shape[:-1])
    product = Product(rows, left.shape[-1], right.shape[-1], batched, bias is not None)
    blocking = choose_blocking(op, product, kernel, device.grid, program, core_grid, a.memory_config())
    plan = MatmulPlan(
        kernel,
        blocking.program,
        blocking.in0_block_w,
        blocking.blocks,
        blocking.l1_acc,
        a.dtype.format,
        b.dtype.format,
        output.format,
        as_activation(op, fused) if fused is not None else None,
    )
    if not batched:
        right = right.reshape(right.shape[-2:])
    values = device.engine.matmul(left, right, None if bias is None else bias.values, plan)
    if activation is not None:
        values = device.engine.unary(values, UnaryPlan(as_activation(op, activation), output.format))
    return result(values, a, output, plan)


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
