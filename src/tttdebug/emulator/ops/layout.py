# SPDX-License-Identifier: Apache-2.0
"""Rows and tiles, and copies of tensors: what moves data without changing a value."""

from __future__ import annotations

from collections.abc import Sequence

from tttdebug.emulator.dtypes import TILE, DataType, Layout
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import device_of, operation, result
from tttdebug.emulator.ops.creation import reallocate, typecast
from tttdebug.emulator.ops.data_movement import rearranged
from tttdebug.emulator.placement import MemoryConfig, check_shards
from tttdebug.emulator.settings import STANDARD_TILE
from tttdebug.emulator.tensor import Tensor

_WHERE = "memory_config use_multicore sub_core_grids"


def _in_layout(op: str, tensor: Tensor, layout: Layout, dtype: DataType | None) -> Tensor:
    target = dtype or tensor.dtype
    if target is not tensor.dtype:
        tensor = typecast(tensor, target)
    if layout is Layout.ROW_MAJOR and target.is_block:
        raise EmulatorError(f"{op}: {target} exists in TILE_LAYOUT only")
    return Tensor(tensor.data, target, layout, tensor.device(), tensor.memory_config())


def _require_rows(op: str, tensor: Tensor) -> None:
    if tensor.layout is not Layout.ROW_MAJOR:
        raise EmulatorError(f"{op}: input_tensor is in {tensor.layout}; this op takes ROW_MAJOR_LAYOUT")


@operation("ttnn.tilize", accepts=_WHERE + " use_low_perf", only={"tile": STANDARD_TILE})
def tilize(input_tensor: Tensor, *, dtype: DataType | None = None) -> Tensor:
    """Rows as tiles; the last two sizes must be whole tiles."""
    _require_rows("ttnn.tilize", input_tensor)
    sizes = list(input_tensor.shape)[-2:]
    if len(sizes) < 2 or any(size % TILE for size in sizes):
        raise EmulatorError(
            f"ttnn.tilize: {input_tensor.shape} does not end in whole tiles of {TILE}; use tilize_with_zero_padding"
        )
    return _in_layout("ttnn.tilize", input_tensor, Layout.TILE, dtype)


@operation("ttnn.tilize_with_val_padding", accepts=_WHERE)
def tilize_with_val_padding(
    input_tensor: Tensor, output_tensor_shape: Sequence[int], pad_value: float, *, dtype: DataType | None = None
) -> Tensor:
    """Rows as tiles; the padding up to `output_tensor_shape` is not visible in the emulator."""
    op, shape = "ttnn.tilize_with_val_padding", list(output_tensor_shape)
    _require_rows(op, input_tensor)
    fits = len(shape) == len(input_tensor.shape) and all(
        have <= want for have, want in zip(input_tensor.shape, shape, strict=True)
    )
    if not fits or any(size % TILE for size in shape[-2:]):
        raise EmulatorError(f"{op}: output_tensor_shape={shape} must hold {input_tensor.shape} and end in whole tiles")
    return _in_layout(op, input_tensor, Layout.TILE, dtype)


@operation("ttnn.tilize_with_zero_padding", accepts=_WHERE)
def tilize_with_zero_padding(input_tensor: Tensor, *, output_dtype: DataType | None = None) -> Tensor:
    """Rows as tiles, padded with zeros."""
    _require_rows("ttnn.tilize_with_zero_padding", input_tensor)
    return _in_layout("ttnn.tilize_with_zero_padding", input_tensor, Layout.TILE, output_dtype)


def _require_tiles(op: str, tensor: Tensor) -> None:
    if tensor.layout is not Layout.TILE:
        raise EmulatorError(f"{op}: input_tensor is in {tensor.layout}; this op takes TILE_LAYOUT")


@operation("ttnn.untilize", accepts=_WHERE)
def untilize(input_tensor: Tensor) -> Tensor:
    """Tiles as rows; block formats become bfloat16, which holds their values."""
    _require_tiles("ttnn.untilize", input_tensor)
    return _in_layout("ttnn.untilize", input_tensor, Layout.ROW_MAJOR, _as_rows(input_tensor))


@operation("ttnn.untilize_with_unpadding", accepts=_WHERE)
def untilize_with_unpadding(input_tensor: Tensor, output_tensor_end: Sequence[int]) -> Tensor:
    """Tiles as rows, up to and with the element `output_tensor_end` of every dimension."""
    op, ends = "ttnn.untilize_with_unpadding", list(output_tensor_end)
    _require_tiles(op, input_tensor)
    if len(ends) != len(input_tensor.shape) or any(
        not 0 <= end < size for end, size in zip(ends, input_tensor.shape, strict=True)
    ):
        raise EmulatorError(f"{op}: output_tensor_end={ends} is no element of {input_tensor.shape}")
    part = rearranged(input_tensor.data[tuple(slice(end + 1) for end in ends)], input_tensor)
    return _in_layout(op, part, Layout.ROW_MAJOR, _as_rows(input_tensor))


def _as_rows(tensor: Tensor) -> DataType | None:
    return DataType.BFLOAT16 if tensor.dtype.is_block else None


@operation("ttnn.copy")
def copy(input_a: Tensor, input_b: Tensor) -> Tensor:
    """Writes the first tensor into the second, packed in its data type; gives the second."""
    if input_a.shape != input_b.shape:
        raise EmulatorError(f"ttnn.copy: input_a {input_a.shape} does not fit input_b {input_b.shape}")
    input_b.replace(_repacked(input_a, input_b.dtype).data.clone())
    return input_b


@operation("ttnn.assign", accepts="memory_config output_tensor", also={"input_a": "input_tensor"})
def assign(input_tensor: Tensor, input_b: Tensor | None = None, *, dtype: DataType | None = None) -> Tensor:
    """A copy of the tensor, or the second tensor with the first written into it."""
    if input_b is not None:
        return copy(input_tensor, input_b)
    return _repacked(input_tensor, dtype or input_tensor.dtype)


def _repacked(tensor: Tensor, dtype: DataType) -> Tensor:
    if dtype is tensor.dtype:
        return result(tensor.values.clone(), tensor)
    return result(device_of(tensor).engine.repack(tensor.values, dtype.format), tensor, dtype)


@operation("ttnn.move")
def move(input_tensor: Tensor, *, memory_config: MemoryConfig | None = None) -> Tensor:
    """The tensor moved in memory; the old one is freed."""
    return reallocate(input_tensor, memory_config)


@operation("ttnn.reshard", accepts="output_tensor")
def reshard(input_tensor: Tensor, output_memory_config: MemoryConfig) -> Tensor:
    """A sharded tensor in other shards."""
    op = "ttnn.reshard"
    if not input_tensor.is_sharded() or not output_memory_config.is_sharded():
        raise EmulatorError(f"{op}: both input_tensor and output_memory_config must be sharded")
    check_shards(op, output_memory_config, input_tensor.shape)
    moved = result(input_tensor.values, input_tensor)
    moved.place(output_memory_config)
    return moved


@operation("ttnn.fill_implicit_tile_padding", accepts="memory_config")
def fill_implicit_tile_padding(input_tensor: Tensor, fill_value: float) -> Tensor:
    """The tensor as it is: the emulator's ops do not see the padding of tiles."""
    return result(input_tensor.values, input_tensor)


@operation("ttnn.experimental.typecast", accepts="optional_output_tensor")
def experimental_typecast(input_tensor: Tensor, dtype: DataType, memory_config: MemoryConfig | None = None) -> Tensor:
    """The tensor in another data type, converted on the device."""
    output = typecast(input_tensor, dtype)
    if memory_config is not None:
        output.place(memory_config)
    return output
