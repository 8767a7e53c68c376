# SPDX-License-Identifier: Apache-2.0
"""Softmax of scaled and masked scores, and the forms that write into their input."""

from __future__ import annotations

import torch

from tttdebug.emulator.device import Device
from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.formats import BFLOAT16, FLOAT32
from tttdebug.emulator.kernel import (
    Kernel,
    MathFidelity,
    WormholeComputeKernelConfig,
    full_fidelity,
    resolve_kernel,
    softmax_default,
)
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile, result
from tttdebug.emulator.ops.normalization import softmax
from tttdebug.emulator.plans import BinaryPlan, SoftmaxPlan
from tttdebug.emulator.rounding import to_bfloat16_truncated
from tttdebug.emulator.tensor import Tensor


def _scaled(
    op: str,
    x: Tensor,
    scale: float | None,
    mask: Tensor | None,
    config: WormholeComputeKernelConfig | None,
    default: Kernel,
    *,
    causal: bool,
    stable: bool,
) -> Tensor:
    """softmax(x·scale + mask) over the last dimension; the scale is cut to bfloat16, each step packed."""
    require_tile(op, input_tensor=x, mask=mask)
    require_float(op, input_tensor=x, mask=mask)
    if causal and mask is None:
        raise EmulatorError(f"{op}: is_causal_mask=True without a mask; the mask itself must be given")
    engine, kernel = device_of(x).engine, resolve_kernel(op, config, default)
    wide = x.dtype is DataType.FLOAT32 or (kernel.explicit and kernel.fp32_dest)
    form = FLOAT32 if wide else BFLOAT16
    values = x.values
    if scale is not None:
        factor = float(to_bfloat16_truncated(torch.tensor(scale, dtype=torch.float32)))
        values = engine.binary(values, factor, BinaryPlan("multiply", "fpu", kernel, x.dtype.format, form, form))
    if mask is not None:
        rows = mask.values if causal else mask.values[..., :1, :]
        if rows.shape[-1] != x.shape[-1] or (causal and rows.shape[-2] != x.shape[-2]):
            raise EmulatorError(f"{op}: mask {mask.shape} does not fit input_tensor {x.shape}")
        values = engine.binary(values, rows, BinaryPlan("add", "fpu", kernel, form, mask.dtype.format, form))
    plan = SoftmaxPlan(kernel, form, x.dtype.format, stable)
    return result(engine.softmax(values, plan), x, plan=plan)


def _default(device: Device, x: Tensor) -> Kernel:
    return softmax_default(device.arch(), fp32_input=x.dtype is DataType.FLOAT32)


def _in_place_default(device: Device, x: Tensor, *, stable: bool) -> Kernel:
    """What the in-place forms take: fp32 Dest only for fp32 tensors, or when not numerically stable."""
    fp32 = x.dtype is DataType.FLOAT32
    dest = fp32 or not stable
    fidelity = full_fidelity(device.arch()) if dest else MathFidelity.HiFi4
    return Kernel(fidelity, approx=not fp32, fp32_dest=dest)


def _written(x: Tensor, output: Tensor) -> Tensor:
    x.replace(output.data, output.plan)
    return x


@operation("ttnn.scale_mask_softmax", accepts="memory_config")
def scale_mask_softmax(
    input_tensor: Tensor,
    scale: float | None = None,
    mask: Tensor | None = None,
    *,
    is_causal_mask: bool = False,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    numeric_stable: bool = True,
) -> Tensor:
    """softmax(x·scale + mask): of a causal mask every row counts, of another one its first."""
    return _scaled(
        "ttnn.scale_mask_softmax",
        input_tensor,
        scale,
        mask,
        compute_kernel_config,
        _default(device_of(input_tensor), input_tensor),
        causal=is_causal_mask,
        stable=numeric_stable,
    )


@operation("ttnn.scale_mask_softmax_in_place", accepts="program_config")
def scale_mask_softmax_in_place(
    input_tensor: Tensor,
    scale: float | None = None,
    mask: Tensor | None = None,
    *,
    is_causal_mask: bool = False,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    numeric_stable: bool = False,
) -> Tensor:
    """scale_mask_softmax written into its input, which is given back."""
    default = _in_place_default(device_of(input_tensor), input_tensor, stable=numeric_stable)
    return _written(
        input_tensor,
        _scaled(
            "ttnn.scale_mask_softmax_in_place",
            input_tensor,
            scale,
            mask,
            compute_kernel_config,
            default,
            causal=is_causal_mask,
            stable=numeric_stable,
        ),
    )


@operation("ttnn.scale_causal_mask_hw_dims_softmax_in_place", accepts="program_config")
def scale_causal_mask_hw_dims_softmax_in_place(
    input_tensor: Tensor,
    scale: float | None = None,
    mask: Tensor | None = None,
    *,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    numeric_stable: bool = False,
) -> Tensor:
    """softmax(x·scale + mask) with a mask [1, 1, S, T] for all batches and heads, written into its input."""
    op = "ttnn.scale_causal_mask_hw_dims_softmax_in_place"
    if mask is None or any(size != 1 for size in list(mask.shape)[:-2]):
        raise EmulatorError(f"{op}: mask is {None if mask is None else mask.shape}; give one of [1, 1, S, T]")
    default = _in_place_default(device_of(input_tensor), input_tensor, stable=numeric_stable)
    return _written(
        input_tensor,
        _scaled(op, input_tensor, scale, mask, compute_kernel_config, default, causal=True, stable=numeric_stable),
    )


@operation("ttnn.softmax_in_place", accepts="program_config")
def softmax_in_place(
    input_tensor: Tensor,
    dim: int = -1,
    *,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    numeric_stable: bool = True,
) -> Tensor:
    """softmax written into its input, which is given back."""
    if dim % len(input_tensor.shape) != len(input_tensor.shape) - 1:
        raise EmulatorError(f"ttnn.softmax_in_place: dim={dim}; only the last dimension")
    default = _in_place_default(device_of(input_tensor), input_tensor, stable=numeric_stable)
    return _written(
        input_tensor,
        _scaled(
            "ttnn.softmax_in_place",
            input_tensor,
            None,
            None,
            compute_kernel_config,
            default,
            causal=False,
            stable=numeric_stable,
        ),
    )


def _attention_softmax(op: str, x: Tensor, head_size: int | None, mask: Tensor | None, causal: bool) -> Tensor:
    if head_size is None and mask is None:
        return softmax(x)
    scale = None if head_size is None else head_size**-0.5
    default = _default(device_of(x), x)
    return _scaled(op, x, scale, mask, None, default, causal=causal, stable=True)


@operation("ttnn.transformer.attention_softmax", accepts="memory_config program_config")
def attention_softmax(
    tensor: Tensor, *, head_size: int | None = None, attention_mask: Tensor | None = None, causal_mask: bool = False
) -> Tensor:
    """softmax of attention scores over √head_size, plus a mask."""
    return _attention_softmax("ttnn.transformer.attention_softmax", tensor, head_size, attention_mask, causal_mask)


@operation("ttnn.transformer.attention_softmax_", accepts="memory_config program_config")
def attention_softmax_(
    tensor: Tensor, *, head_size: int | None = None, attention_mask: Tensor | None = None, causal_mask: bool = False
) -> Tensor:
    """attention_softmax written into its input, which is given back."""
    op = "ttnn.transformer.attention_softmax_"
    return _written(tensor, _attention_softmax(op, tensor, head_size, attention_mask, causal_mask))
