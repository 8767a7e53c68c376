# SPDX-License-Identifier: Apache-2.0
"""The largest elements with their places, and values put at given places: what routing to experts takes."""

from __future__ import annotations

import torch

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import operation, require_float, require_tile, result
from tttdebug.emulator.tensor import Tensor


@operation(
    "ttnn.topk", accepts="memory_config sub_core_grids stable", only={"output_tensor": None, "indices_tensor": None}
)
def topk(
    input_tensor: Tensor, k: int = 32, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Tensor, Tensor]:
    """The `k` largest (or smallest) elements along the last dimension in falling order, and their places as uint16.

    Of equal elements the first comes first, as the chip gives them with `stable` or for padded rows.
    """
    op = "ttnn.topk"
    require_tile(op, input_tensor=input_tensor)
    require_float(op, input_tensor=input_tensor)
    width = input_tensor.shape[-1]
    if dim % len(input_tensor.shape) != len(input_tensor.shape) - 1:
        raise EmulatorError(f"{op}: dim={dim} is not emulated, only the last dimension")
    if not 1 <= k <= width:
        raise EmulatorError(f"{op}: k={k}, the last dimension has {width} elements")
    values, places = input_tensor.values.sort(dim=-1, descending=largest, stable=True)
    indices = result(places[..., :k].to(torch.int32), input_tensor, DataType.UINT16)
    return result(values[..., :k].contiguous(), input_tensor), indices


@operation("ttnn.scatter", accepts="memory_config sub_core_grids", only={"reduce": None})
def scatter(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with the elements of `src` along `dim` put at the places that `index` names."""
    op = "ttnn.scatter"
    if index.dtype.is_float or index.shape != src.shape or input.dtype is not src.dtype:
        raise EmulatorError(
            f"{op}: index {index} must hold integers, shaped as src {src}, which has the input's type {input.dtype}"
        )
    values = input.values.scatter(dim, index.values.long(), src.values)
    return result(values, input)
