# SPDX-License-Identifier: Apache-2.0
"""Norms of rows that are spread over devices: sums before, normalising after an all-gather; group and batch norm."""

from __future__ import annotations

import torch

from tttdebug.emulator.dtypes import TILE, DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.formats import BFLOAT16, FLOAT32, Format
from tttdebug.emulator.kernel import RMS_NORM, Kernel, WormholeComputeKernelConfig, resolve_kernel
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile, result
from tttdebug.emulator.plans import Activation, BinaryPlan, ReducePlan, UnaryPlan
from tttdebug.emulator.rounding import to_bfloat16_truncated
from tttdebug.emulator.tensor import Tensor

_SQUARES, _SUMS = 0, TILE  # the columns of a device's statistics that hold the sums


class _Steps:
    """The kernel's steps on values, each packed in the intermediate format: fp32 with fp32 Dest, else bfloat16."""

    def __init__(self, op: str, x: Tensor, config: WormholeComputeKernelConfig | None) -> None:
        self.kernel: Kernel = resolve_kernel(op, config, RMS_NORM)
        self.engine = device_of(x).engine
        self.form: Format = FLOAT32 if self.kernel.fp32_dest else BFLOAT16

    def binary(self, function: str, a: torch.Tensor, b: torch.Tensor | float) -> torch.Tensor:
        plan = BinaryPlan(function, "fpu", self.kernel, self.form, self.form, self.form)
        return self.engine.binary(a, b, plan)

    def row_sum(self, x: torch.Tensor) -> torch.Tensor:
        return self.engine.reduce(x, ReducePlan("sum", (x.ndim - 1,), self.kernel, self.form))

    def rsqrt(self, x: torch.Tensor) -> torch.Tensor:
        return self.engine.unary(x, UnaryPlan(Activation("rsqrt", self.kernel.approx), self.form))


def _pre(
    op: str,
    x: Tensor,
    dtype: DataType,
    residual: Tensor | None,
    config: WormholeComputeKernelConfig | None,
    *,
    with_sum: bool,
) -> Tensor:
    require_tile(op, input_tensor=x)
    require_float(op, input_tensor=x, residual_input_tensor=residual)
    steps, values = _Steps(op, x, config), x.values
    if residual is not None:
        values = steps.binary("add", values, residual.values)
    blocks = [steps.row_sum(steps.binary("multiply", values, values))]
    if with_sum:
        blocks.append(steps.row_sum(values))
    statistics = torch.cat([torch.nn.functional.pad(block, (0, TILE - 1)) for block in blocks], -1)
    return result(steps.engine.repack(statistics, dtype.format), x, dtype)


@operation(
    "ttnn.rms_norm_pre_all_gather",
    accepts="memory_config program_config use_2d_core_grid",
    only={"fast_and_approximate_mode": False},
)
def rms_norm_pre_all_gather(
    input_tensor: Tensor,
    *,
    dtype: DataType = DataType.BFLOAT16,
    residual_input_tensor: Tensor | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """The sum of each row's squares, in the first column of a tile [.., S, 32]."""
    op = "ttnn.rms_norm_pre_all_gather"
    return _pre(op, input_tensor, dtype, residual_input_tensor, compute_kernel_config, with_sum=False)


@operation(
    "ttnn.layer_norm_pre_all_gather",
    accepts="memory_config program_config",
    only={"recip_tensor": None, "fast_and_approximate_mode": False},
)
def layer_norm_pre_all_gather(
    input_tensor: Tensor,
    *,
    dtype: DataType = DataType.BFLOAT16,
    residual_input_tensor: Tensor | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """The sums of each row's squares and of the row, in the first columns of two tiles [.., S, 64]."""
    op = "ttnn.layer_norm_pre_all_gather"
    return _pre(op, input_tensor, dtype, residual_input_tensor, compute_kernel_config, with_sum=True)


def _post(
    op: str,
    x: Tensor,
    stats: Tensor,
    epsilon: float,
    weight: Tensor | None,
    bias: Tensor | None,
    config: WormholeComputeKernelConfig | None,
    dtype: DataType | None,
    *,
    centred: bool,
) -> Tensor:
    require_tile(op, input_tensor=x, stats=stats)
    require_float(op, input_tensor=x, stats=stats, weight=weight, bias=bias)
    width = TILE * (2 if centred else 1)
    if stats.shape[-1] % width or list(stats.shape)[:-1] != list(x.shape)[:-1]:
        raise EmulatorError(
            f"{op}: stats has {stats.shape} for input_tensor {x.shape}; it must hold {width} columns a device"
        )
    steps, target = _Steps(op, x, config), dtype or x.dtype
    share = 1 / (x.shape[-1] * (stats.shape[-1] // width))

    def mean(column: int) -> torch.Tensor:
        return steps.binary("multiply", steps.row_sum(stats.values[..., column::width]), share)

    variance, y = mean(_SQUARES), x.values
    if centred:
        average = mean(_SUMS)
        variance = steps.binary("subtract", variance, steps.binary("multiply", average, average))
        y = steps.binary("subtract", y, average)
    small = float(to_bfloat16_truncated(torch.tensor(epsilon, dtype=torch.float32)))
    y = steps.binary("multiply", y, steps.rsqrt(steps.binary("add", variance, small)))
    for function, name, row in (("multiply", "weight", weight), ("add", "bias", bias)):
        if row is not None:
            if row.logical_volume() != x.shape[-1]:
                raise EmulatorError(f"{op}: {name} has {row.shape}, the input's last size is {x.shape[-1]}")
            y = steps.binary(function, y, row.values.reshape(-1))
    return result(steps.engine.repack(y, target.format), x, target)


@operation("ttnn.rms_norm_post_all_gather", accepts="memory_config program_config use_2d_core_grid")
def rms_norm_post_all_gather(
    input_tensor: Tensor,
    stats: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    dtype: DataType | None = None,
) -> Tensor:
    """A device's part of the RMS norm, with the gathered sums of all devices."""
    op = "ttnn.rms_norm_post_all_gather"
    return _post(op, input_tensor, stats, epsilon, weight, bias, compute_kernel_config, dtype, centred=False)


@operation("ttnn.layer_norm_post_all_gather", accepts="memory_config program_config")
def layer_norm_post_all_gather(
    input_tensor: Tensor,
    stats: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    dtype: DataType | None = None,
) -> Tensor:
    """A device's part of the layer norm, with the gathered sums of all devices."""
    op = "ttnn.layer_norm_post_all_gather"
    return _post(op, input_tensor, stats, epsilon, weight, bias, compute_kernel_config, dtype, centred=True)


@operation(
    "ttnn.batch_norm",
    accepts="memory_config compute_kernel_config output",
    only={"training": False, "momentum": 0.1},
)
def batch_norm(
    input: Tensor,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    eps: float = 1e-05,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """(x − running mean) / √(running variance + eps) · weight + bias per channel of [N, C, H, W], in fp32."""
    op = "ttnn.batch_norm"
    require_float(op, input=input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if running_mean is None or running_var is None:
        raise EmulatorError(f"{op}: give running_mean and running_var; training is not emulated")
    channels = input.shape[1]
    rows: list[torch.Tensor | None] = []
    for name, row in {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}.items():
        if row is not None and row.logical_volume() != channels:
            raise EmulatorError(f"{op}: {name} has {row.shape}, the input {channels} channels")
        rows.append(None if row is None else row.values.reshape(-1).float())
    mean, variance, scale, shift = rows
    values = torch.nn.functional.batch_norm(input.values.float(), mean, variance, scale, shift, eps=eps)
    return result(device_of(input).engine.repack(values, input.dtype.format), input)
