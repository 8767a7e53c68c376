# SPDX-License-Identifier: Apache-2.0
"""Sums, means and extrema over dimensions, and the index of the largest element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from tttdebug.emulator.dtypes import DataType, Layout
from tttdebug.emulator.kernel import WormholeComputeKernelConfig, reduction_default, resolve_kernel
from tttdebug.emulator.operation import device_of, operation, require_float, result
from tttdebug.emulator.plans import ReducePlan
from tttdebug.emulator.tensor import Tensor


def _reduction(name: str, function: str, only: dict[str, object]) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, accepts="memory_config sub_core_grids", only=only)
    def reduction(
        input_tensor: Tensor,
        dim: int | Sequence[int] | None = None,
        keepdim: bool = False,
        *,
        compute_kernel_config: WormholeComputeKernelConfig | None = None,
        scalar: float = 1.0,
    ) -> Tensor:
        require_float(op, input_tensor=input_tensor)
        device, rank = device_of(input_tensor), len(input_tensor.shape)
        dims = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
        wanted = tuple(sorted(d % rank for d in dims))
        scale = scalar / math.prod(input_tensor.shape[d] for d in wanted) if name == "mean" else scalar
        kernel = resolve_kernel(op, compute_kernel_config, reduction_default(device.arch()))
        plan = ReducePlan(function, wanted, kernel, input_tensor.dtype.format, scale)
        values = device.engine.reduce(input_tensor.values, plan)
        return result(values if keepdim else values.squeeze(wanted), input_tensor, plan=plan)

    reduction.__name__ = reduction.__qualname__ = name
    reduction.__doc__ = f"{name} over `dim` (all when None), times `scalar`."
    return reduction


_AS_THEY_ARE: dict[str, object] = {"correction": True, "fast_and_approximate_mode": False}

sum_ = _reduction("sum", "sum", {**_AS_THEY_ARE, "output_layout": None})
mean = _reduction("mean", "sum", {**_AS_THEY_ARE, "output_layout": None})
max_ = _reduction("max", "max", _AS_THEY_ARE)
min_ = _reduction("min", "min", _AS_THEY_ARE)


@operation("ttnn.argmax", accepts="memory_config output_tensor sub_core_grids", only={"enable_secondary_dm": None})
def argmax(input_tensor: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first largest element, uint32 in rows."""
    values = input_tensor.values
    flat = values.reshape(-1) if dim is None else values
    indices = torch.argmax(flat.float(), -1 if dim is None else dim, keepdim=keepdim and dim is not None)
    output = result(indices, input_tensor, DataType.UINT32)
    output.layout = Layout.ROW_MAJOR
    return output
