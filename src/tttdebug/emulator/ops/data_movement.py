# SPDX-License-Identifier: Apache-2.0
"""Reshaping, slicing and rearranging; values are copied, blocks of block formats are packed anew where they move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.mesh_tensor import MeshTensor
from tttdebug.emulator.operation import device_of, operation, result, unshared
from tttdebug.emulator.per_device import on_each_device
from tttdebug.emulator.placement import (
    BufferType,
    CoreCoord,
    CoreRange,
    CoreRangeSet,
    MemoryConfig,
    ShardOrientation,
    ShardSpec,
    TensorMemoryLayout,
    check_shards,
)
from tttdebug.emulator.tensor import Tensor


def rearranged(values: torch.Tensor, source: Tensor) -> Tensor:
    """The output of an op that moved elements; groups of a block format that were torn apart are packed again."""
    values = unshared(values.contiguous(), source.data)
    device = source.device()
    if source.dtype.is_block and device is not None:
        values = device.engine.repack(values, source.dtype.format)
    return result(values, source)


@operation(
    "ttnn.reshape",
    accepts="memory_config pad_value reshape_tile_mode sub_core_grids skip_padding_fill",
    also={"logical_shape": "shape"},
    on_host=True,
)
def reshape(input_tensor: Tensor, shape: Sequence[int], padded_shape: Sequence[int] | None = None) -> Tensor:
    """The same elements in another shape; one size may be −1.

    A padded shape of as many elements as the tensor has in memory may come with a `shape` that shows fewer of them (or
    more: zeros here): so decode cuts a tile's 32 rows to the users that there are.
    """
    sizes = [int(size) for size in shape]
    volume = input_tensor.logical_volume()
    if sizes.count(-1) == 1:
        known = -math.prod(sizes)
        sizes[sizes.index(-1)] = volume // known if known else 0
    if math.prod(sizes) == volume:
        return result(input_tensor.data.reshape(sizes), input_tensor)
    if padded_shape is None or math.prod(padded_shape) != input_tensor.volume():
        raise EmulatorError(f"ttnn.reshape: {input_tensor.shape} has {volume} elements, {list(shape)} does not")
    if len(padded_shape) != len(sizes) or any(s > p for s, p in zip(sizes, padded_shape, strict=True)):
        raise EmulatorError(f"ttnn.reshape: {list(shape)} does not lie within padded_shape={list(padded_shape)}")
    missing = [
        more
        for size, padded in zip(reversed(input_tensor.shape), reversed(input_tensor.padded_shape), strict=True)
        for more in (0, padded - size)
    ]
    in_memory = torch.nn.functional.pad(input_tensor.data, missing).reshape(list(padded_shape))
    return result(unshared(in_memory[tuple(slice(size) for size in sizes)], input_tensor.data), input_tensor)


@operation("ttnn.unsqueeze_to_4D", on_host=True)
def unsqueeze_to_4D(tensor: Tensor) -> Tensor:
    """The tensor with leading ones up to four dimensions."""
    if len(tensor.shape) > 4:
        raise EmulatorError(f"ttnn.unsqueeze_to_4D: {tensor.shape} has more than four dimensions")
    return result(tensor.data.reshape(tensor.shape.to_rank(4)), tensor)


@operation("ttnn.unsqueeze", on_host=True)
def unsqueeze(input_tensor: Tensor, dim: int) -> Tensor:
    """The tensor with a size 1 put in before `dim`."""
    return result(input_tensor.data.unsqueeze(dim), input_tensor)


@operation("ttnn.squeeze", on_host=True)
def squeeze(input_tensor: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """The tensor without its sizes of 1, or without those of `dim`."""
    data = input_tensor.data
    dims = tuple(range(data.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    return result(data.squeeze(dims), input_tensor)


@operation(
    "ttnn.slice",
    accepts="memory_config output_tensor sub_core_grids",
    only=dict.fromkeys(("pad_value", "slice_dim", "num_devices")),
    also={"starts": "slice_start", "ends": "slice_end", "steps": "slice_step"},
    on_host=True,
)
def slice_(
    input_tensor: Tensor, slice_start: Sequence[int], slice_end: Sequence[int], slice_step: Sequence[int] | None = None
) -> Tensor:
    """Elements from `slice_start` up to but without `slice_end`, per dimension; negative numbers count from the end."""
    rank = len(input_tensor.shape)
    steps = [1] * rank if slice_step is None else list(slice_step)
    if not len(slice_start) == len(slice_end) == len(steps) == rank:
        raise EmulatorError(
            f"ttnn.slice: {input_tensor.shape} needs {rank} starts and ends, got {slice_start}, {slice_end}"
        )
    for dim, (start, end) in enumerate(zip(slice_start, slice_end, strict=True)):
        size = input_tensor.shape[dim]
        if not -size <= start <= size or end > size:
            raise EmulatorError(f"ttnn.slice: {start}:{end} leaves dimension {dim} of {input_tensor.shape}")
    spans = tuple(slice(s, e, t) for s, e, t in zip(slice_start, slice_end, steps, strict=True))
    return rearranged(input_tensor.data[spans], input_tensor)


def index(tensor: Tensor, slices: object) -> Tensor:
    """tensor[...]: integers, slices and one ellipsis, as in torch."""
    if isinstance(tensor, MeshTensor):
        return on_each_device("Tensor[...]", index, (tensor, slices), {})
    given = slices if isinstance(slices, tuple) else (slices,)
    for item in given:
        if not isinstance(item, (int, slice, EllipsisType)):
            raise EmulatorError(f"Tensor[...]: {item!r} is not an integer, a slice or an ellipsis")
    try:
        values = tensor.data[given]
    except IndexError as error:
        raise EmulatorError(f"Tensor[...]: {slices!r} of {tensor.shape}: {error}") from None
    return rearranged(values, tensor)


@operation("ttnn.concat", accepts="memory_config output_tensor sub_core_grids", only={"groups": 1}, on_host=True)
def concat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one data type and layout joined along `dim`."""
    if not tensors:
        raise EmulatorError("ttnn.concat: no tensors")
    first = tensors[0]
    for tensor in tensors[1:]:
        if (
            tensor.dtype is not first.dtype
            or tensor.layout is not first.layout
            or tensor.device() is not first.device()
        ):
            raise EmulatorError(f"ttnn.concat: {tensor} and {first} differ in data type, layout or device")
        if len(tensor.shape) != len(first.shape) or any(
            a != b
            for d, (a, b) in enumerate(zip(tensor.shape, first.shape, strict=True))
            if d != dim % len(first.shape)
        ):
            raise EmulatorError(f"ttnn.concat: {tensor.shape} and {first.shape} differ outside dimension {dim}")
    return rearranged(torch.cat([t.data for t in tensors], dim), first)


@operation(
    "ttnn.pad",
    accepts="memory_config use_multicore sub_core_grids",
    only={"output_padded_shape": None, "input_tensor_start": None},
    on_host=True,
)
def pad(input_tensor: Tensor, padding: Sequence[Sequence[int]], value: float) -> Tensor:
    """The tensor with (before, after) elements of `value` added to each of its last dimensions."""
    if len(padding) > len(input_tensor.shape) or any(len(p) != 2 or min(p) < 0 for p in padding):
        raise EmulatorError(
            f"ttnn.pad: padding={padding!r} is not (before, after) for dimensions of {input_tensor.shape}"
        )
    flat = [size for before_after in reversed(padding) for size in before_after]
    return rearranged(torch.nn.functional.pad(input_tensor.data, flat, value=value), input_tensor)


@operation("ttnn.permute", accepts="memory_config pad_value", on_host=True)
def permute(input_tensor: Tensor, dims: Sequence[int]) -> Tensor:
    """The dimensions in another order."""
    if sorted(d % len(input_tensor.shape) for d in dims) != list(range(len(input_tensor.shape))):
        raise EmulatorError(f"ttnn.permute: dims={list(dims)} is no order of the dimensions of {input_tensor.shape}")
    return rearranged(input_tensor.data.permute(*dims), input_tensor)


@operation("ttnn.transpose", accepts="memory_config pad_value", on_host=True)
def transpose(input_tensor: Tensor, dim1: int, dim2: int) -> Tensor:
    """Two dimensions exchanged."""
    return rearranged(input_tensor.data.transpose(dim1, dim2), input_tensor)


@operation("ttnn.repeat", accepts="memory_config optional_output_tensor", on_host=True)
def repeat(input_tensor: Tensor, repeat_dims: Sequence[int]) -> Tensor:
    """The tensor repeated along each dimension, as torch's repeat."""
    if len(repeat_dims) < len(input_tensor.shape):
        raise EmulatorError(f"ttnn.repeat: repeat_dims={list(repeat_dims)} has fewer entries than {input_tensor.shape}")
    return rearranged(input_tensor.data.repeat(*repeat_dims), input_tensor)


def interleaved_to_sharded(input_tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The tensor in shards, given as a memory config or as cores, shard shape, scheme and orientation."""
    by_config = "sharded_memory_config" in kwargs or (bool(args) and isinstance(args[0], MemoryConfig))
    return (_shard_by_config if by_config else _shard_by_cores)(input_tensor, *args, **kwargs)


@operation("ttnn.interleaved_to_sharded", accepts="keep_l1_aligned preallocated_output")
def _shard_by_config(
    input_tensor: Tensor, sharded_memory_config: MemoryConfig, output_dtype: DataType | None = None
) -> Tensor:
    op = "ttnn.interleaved_to_sharded"
    if not sharded_memory_config.is_sharded():
        raise EmulatorError(f"{op}: {sharded_memory_config} is not sharded")
    check_shards(op, sharded_memory_config, input_tensor.shape)
    return _placed(input_tensor, sharded_memory_config, output_dtype)


@operation("ttnn.interleaved_to_sharded", accepts="keep_l1_aligned")
def _shard_by_cores(
    input_tensor: Tensor,
    grid: CoreRangeSet | CoreCoord,
    shard_shape: Sequence[int],
    shard_scheme: TensorMemoryLayout,
    shard_orientation: ShardOrientation,
    output_dtype: DataType | None = None,
) -> Tensor:
    if isinstance(grid, CoreCoord):
        grid = CoreRangeSet([CoreRange(CoreCoord(0, 0), CoreCoord(grid.x - 1, grid.y - 1))])
    spec = ShardSpec(grid, shard_shape, shard_orientation)
    return _shard_by_config(input_tensor, MemoryConfig(shard_scheme, BufferType.L1, spec), output_dtype)


@operation("ttnn.sharded_to_interleaved")
def sharded_to_interleaved(
    input_tensor: Tensor, memory_config: MemoryConfig | None = None, output_dtype: DataType | None = None
) -> Tensor:
    """The tensor out of its shards, in DRAM unless told otherwise."""
    config = memory_config or MemoryConfig()
    if config.is_sharded():
        raise EmulatorError(f"ttnn.sharded_to_interleaved: {config} is sharded")
    return _placed(input_tensor, config, output_dtype)


def _placed(tensor: Tensor, config: MemoryConfig, dtype: DataType | None) -> Tensor:
    values = tensor.values
    if dtype is not None and dtype is not tensor.dtype:
        values = device_of(tensor).engine.repack(values, dtype.format)
    return Tensor(values, dtype or tensor.dtype, tensor.layout, tensor.device(), config)
