# SPDX-License-Identifier: Apache-2.0
"""RMS norm, layer norm and softmax over the last dimension."""

from __future__ import annotations

import torch

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.formats import BFLOAT16, FLOAT32
from tttdebug.emulator.kernel import (
    LAYER_NORM,
    RMS_NORM,
    Kernel,
    WormholeComputeKernelConfig,
    resolve_kernel,
    softmax_default,
)
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile, result
from tttdebug.emulator.plans import NormPlan, SoftmaxPlan
from tttdebug.emulator.tensor import Tensor


@operation("ttnn.rms_norm", accepts="memory_config program_config")
def rms_norm(
    input_tensor: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """x / sqrt(mean(x²) + epsilon) · weight + bias, with x the input plus the residual."""
    return _norm(
        "ttnn.rms_norm", input_tensor, weight, bias, residual_input_tensor, epsilon, compute_kernel_config, RMS_NORM
    )


@operation("ttnn.layer_norm", accepts="memory_config program_config", only={"recip_tensor": None})
def layer_norm(
    input_tensor: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """(x − mean) / sqrt(variance + epsilon) · weight + bias, with x the input plus the residual."""
    return _norm(
        "ttnn.layer_norm", input_tensor, weight, bias, residual_input_tensor, epsilon, compute_kernel_config, LAYER_NORM
    )


def _norm(
    op: str,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    config: WormholeComputeKernelConfig | None,
    default: Kernel,
) -> Tensor:
    require_tile(op, input_tensor=x)
    require_float(op, input_tensor=x, weight=weight, bias=bias, residual_input_tensor=residual)
    if residual is not None and residual.shape != x.shape:
        raise EmulatorError(f"{op}: residual_input_tensor is {residual.shape}, the input {x.shape}")
    plan = NormPlan(resolve_kernel(op, config, default), epsilon, x.dtype.format, centred=op == "ttnn.layer_norm")
    values = device_of(x).engine.norm(
        x.values,
        _row(op, "weight", weight, x),
        _row(op, "bias", bias, x),
        None if residual is None else residual.values,
        plan,
    )
    return result(values, x, plan=plan)


def _row(op: str, name: str, parameter: Tensor | None, x: Tensor) -> torch.Tensor | None:
    """A norm's parameter as one row; it may come as [N], [1, 1, N] or [1, 1, N/32, 32]."""
    if parameter is None:
        return None
    if parameter.logical_volume() != x.shape[-1]:
        raise EmulatorError(f"{op}: {name} has {parameter.shape}, the input's last size is {x.shape[-1]}")
    return parameter.values.reshape(-1)


@operation("ttnn.softmax", accepts="memory_config")
def softmax(
    input_tensor: Tensor,
    dim: int = -1,
    *,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    numeric_stable: bool = True,
) -> Tensor:
    """Softmax over the last dimension."""
    op = "ttnn.softmax"
    require_tile(op, input_tensor=input_tensor)
    require_float(op, input_tensor=input_tensor)
    if dim % len(input_tensor.shape) != len(input_tensor.shape) - 1:
        raise EmulatorError(f"{op}: dim={dim} is not emulated, only the last dimension")
    fp32 = input_tensor.dtype is DataType.FLOAT32
    device = device_of(input_tensor)
    kernel = resolve_kernel(op, compute_kernel_config, softmax_default(device.arch(), fp32_input=fp32))
    wide = fp32 or (kernel.explicit and kernel.fp32_dest)
    plan = SoftmaxPlan(kernel, FLOAT32 if wide else BFLOAT16, input_tensor.dtype.format, numeric_stable)
    return result(device.engine.softmax(input_tensor.values, plan), input_tensor, plan=plan)
