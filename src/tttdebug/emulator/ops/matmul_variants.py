# SPDX-License-Identifier: Apache-2.0
"""Products with other kernels than ttnn.matmul's, and a product scaled and added."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tttdebug.emulator.dtypes import TILE, DataType, round_up
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import Kernel, MathFidelity, WormholeComputeKernelConfig, resolve_kernel
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile, result
from tttdebug.emulator.ops.eltwise import FusedFunction, apply_binary, as_activation
from tttdebug.emulator.ops.matmul import check_shapes, matmul
from tttdebug.emulator.placement import CoreCoord, CoreGrid
from tttdebug.emulator.plans import Blocking, MatmulPlan
from tttdebug.emulator.programs import MatmulProgram
from tttdebug.emulator.tensor import Tensor

_MINIMAL = Kernel(MathFidelity.HiFi2, fp32_dest=True, l1_acc=True)


@dataclass(kw_only=True)
class MinimalMatmulConfig:
    """Block sizes in tiles; the one along K decides how often a partial sum leaves Dest."""

    M_block_size: int = 1
    K_block_size: int = 1
    N_block_size: int = 1
    subblock_h: int = 1
    subblock_w: int = 1
    compute_with_storage_grid_size: CoreCoord | tuple[int, int] = (1, 1)


@operation("ttnn.experimental.minimal_matmul", accepts="memory_config", only={"fuse_swiglu": False})
def minimal_matmul(
    input_tensor: Tensor,
    weight_tensor: Tensor,
    *,
    bias_tensor: Tensor | None = None,
    fused_activation: FusedFunction | None = None,
    config: MinimalMatmulConfig | None = None,
    dtype: DataType | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """input @ weight + bias, then an activation; HiFi2 with fp32 accumulation unless told otherwise."""
    op = "ttnn.experimental.minimal_matmul"
    a, b = input_tensor, weight_tensor
    require_tile(op, input_tensor=a, weight_tensor=b)
    require_float(op, input_tensor=a, weight_tensor=b, bias_tensor=bias_tensor)
    check_shapes(op, a.values, b.values, bias_tensor, takes_bias=True)
    if math.prod(list(b.shape)[:-2]) > 1:
        raise EmulatorError(f"{op}: weight_tensor has {b.shape}; one matrix is needed")
    if config is not None and not isinstance(config, MinimalMatmulConfig):
        raise EmulatorError(f"{op}: config={config!r} is not a MinimalMatmulConfig")
    kernel = resolve_kernel(op, compute_kernel_config, _MINIMAL)
    k_tiles = round_up(a.shape[-1]) // TILE
    width = min(config.K_block_size if config else 8, k_tiles)
    blocks = -(-k_tiles // width)
    adds_in_l1 = kernel.l1_acc and blocks > (1 if bias_tensor is not None else 2)
    output = dtype or a.dtype
    plan = MatmulPlan(
        kernel,
        Blocking("minimal", width, blocks, adds_in_l1),
        a.dtype.format,
        b.dtype.format,
        output.format,
        None if fused_activation is None else as_activation(op, fused_activation),
    )
    row = None if bias_tensor is None else bias_tensor.values.reshape(-1)
    values = device_of(a).engine.matmul(a.values, b.values.reshape(list(b.shape)[-2:]), row, plan)
    return result(values, a, output, plan)


@operation("ttnn.addmm", accepts="memory_config optional_output_tensor", only={"output_tile": None})
def addmm(
    input_tensor: Tensor,
    mat1_tensor: Tensor,
    mat2_tensor: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    dtype: DataType | None = None,
    program_config: MatmulProgram | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    core_grid: CoreGrid | None = None,
) -> Tensor:
    """beta·input + alpha·(mat1 @ mat2); each step is packed."""
    op = "ttnn.addmm"
    product = matmul(
        mat1_tensor,
        mat2_tensor,
        dtype=dtype,
        program_config=program_config,
        compute_kernel_config=compute_kernel_config,
        core_grid=core_grid,
    )
    if alpha != 1.0:
        product = apply_binary(op, "multiply", product, alpha)
    if beta == 0.0:
        return product
    scaled = input_tensor if beta == 1.0 else apply_binary(op, "multiply", input_tensor, beta)
    return apply_binary(op, "add", product, scaled, fast=True)
