# SPDX-License-Identifier: Apache-2.0
"""Making tensors, and moving them between torch, host, device, layouts and data types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tttdebug.emulator.device import Device
from tttdebug.emulator.dtypes import DataType, Layout
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.formats import FloatFormat, IntegerFormat
from tttdebug.emulator.mesh import Mesh, MeshComposer, MeshMapper
from tttdebug.emulator.mesh_tensor import MeshTensor, TensorTopology, device_tensors
from tttdebug.emulator.operation import device_of, operation, result, unshared
from tttdebug.emulator.placement import DRAM_MEMORY_CONFIG, MemoryConfig, check_shards
from tttdebug.emulator.settings import STANDARD_TILE
from tttdebug.emulator.tensor import Tensor

default_mappings: list[MeshMapper | MeshComposer] = []
"""What `ttnn.distribute` asks for: the last mapper holds for from_torch, the last composer for to_torch."""


_DTYPE_OF = {
    torch.bfloat16: DataType.BFLOAT16,
    torch.float32: DataType.FLOAT32,
    torch.float64: DataType.FLOAT32,
    torch.float16: DataType.BFLOAT16,
    torch.int32: DataType.INT32,
    torch.int64: DataType.UINT32,
    torch.uint32: DataType.UINT32,
    torch.uint16: DataType.UINT16,
    torch.uint8: DataType.UINT8,
}


@operation(
    "ttnn.from_torch",
    accepts="cq_id",
    only={
        "spec": None,
        "tile": STANDARD_TILE,
        "pad_value": 0,
        "preserve_nan_values": False,
        "enable_bfloat_opt": False,
    },
    across_mesh=True,
)
def from_torch(
    tensor: torch.Tensor | np.ndarray[Any, Any],
    dtype: DataType | None = None,
    *,
    layout: Layout | None = None,
    device: Device | None = None,
    memory_config: MemoryConfig | None = None,
    mesh_mapper: MeshMapper | None = None,
    col_tilize: bool = False,
) -> Tensor:
    """A ttnn tensor with the values of a torch tensor, rounded to `dtype` as the host rounds.

    With `col_tilize` the last two dimensions are exchanged first, so that blocks of a block format lie along the other.
    A mesh gets the parts that `mesh_mapper` makes, or the whole tensor on every device without one.
    """
    op = "ttnn.from_torch"
    if mesh_mapper is None:
        mesh_mapper = next((m for m in reversed(default_mappings) if isinstance(m, MeshMapper)), None)
    if mesh_mapper is not None and not isinstance(mesh_mapper, MeshMapper):
        raise EmulatorError(f"{op}: mesh_mapper={mesh_mapper!r}; make one with ShardTensorToMesh or create_mesh_mapper")
    source = torch.from_numpy(tensor) if isinstance(tensor, np.ndarray) else tensor
    if not isinstance(source, torch.Tensor):
        raise EmulatorError(f"{op}: tensor is a {type(tensor).__name__}; give a torch.Tensor")
    if dtype is None:
        if source.dtype not in _DTYPE_OF:
            raise EmulatorError(f"{op}: no ttnn data type for {source.dtype}; give dtype=")
        dtype = _DTYPE_OF[source.dtype]
    if col_tilize:
        if not dtype.is_block or source.ndim < 2:
            raise EmulatorError(
                f"{op}: col_tilize needs a block format and two dimensions, got {dtype}, {source.shape}"
            )
        source = source.mT
    if dtype.is_block:
        if layout is Layout.ROW_MAJOR:
            raise EmulatorError(f"{op}: {dtype} exists in TILE_LAYOUT only")
        layout = Layout.TILE
    layout = layout or Layout.ROW_MAJOR
    source = source.detach() if device is not None else source.detach().clone()
    host = _spread(source, dtype, layout, mesh_mapper) if mesh_mapper else Tensor(source, dtype, layout)
    return host if device is None else to_device(host, device, memory_config)


def _spread(source: torch.Tensor, dtype: DataType, layout: Layout, mapper: MeshMapper) -> Tensor:
    """Host tensors for the devices of a mesh; for a mesh of one device, its tensor."""
    shards = [Tensor(part, dtype, layout) for part in mapper.split(source)]
    if not isinstance(mapper.mesh_device, Mesh):
        return shards[0]
    return MeshTensor(shards, None, TensorTopology(mapper.shape, mapper.placements))


@operation("ttnn.as_tensor", accepts="cache_dump_mode", across_mesh=True)
def as_tensor(
    tensor: torch.Tensor,
    dtype: DataType | None = None,
    *,
    layout: Layout | None = Layout.ROW_MAJOR,
    device: Device | None = None,
    memory_config: MemoryConfig | None = None,
    cache_file_name: str | Path | None = None,
    preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
    mesh_mapper: MeshMapper | None = None,
) -> Tensor:
    """`from_torch` with an optional `preprocess`. No cache file is written or read: quantising again costs little."""
    if device is not None and memory_config is None:
        raise EmulatorError("ttnn.as_tensor: with a device a memory_config must be given, e.g. ttnn.DRAM_MEMORY_CONFIG")
    if preprocess is not None:
        tensor = preprocess(tensor)
    if dtype is not None and dtype.is_block:
        layout = Layout.TILE
    return from_torch(tensor, dtype, layout=layout, device=device, memory_config=memory_config, mesh_mapper=mesh_mapper)


@operation("ttnn.to_torch", accepts="cq_id", on_host=True, across_mesh=True)
def to_torch(
    tensor: Tensor,
    dtype: torch.dtype | None = None,
    *,
    torch_rank: int | None = None,
    mesh_composer: MeshComposer | None = None,
    device: Device | None = None,
) -> torch.Tensor:
    """A torch copy on the CPU: bfloat16 for bfloat16, float32 for float32 and block formats, integers as they are.

    A device with the ideal engine holds fp32, and fp32 is what it gives. A tensor on several devices is joined as
    `mesh_composer` says.
    """
    if mesh_composer is None and isinstance(tensor, MeshTensor):
        mesh_composer = next((m for m in reversed(default_mappings) if isinstance(m, MeshComposer)), None)
    if mesh_composer is not None:
        if not isinstance(mesh_composer, MeshComposer):
            raise EmulatorError(f"ttnn.to_torch: mesh_composer={mesh_composer!r}; make one with ConcatMeshToTensor")
        joined = mesh_composer.join([to_torch(shard, dtype) for shard in device_tensors(tensor)])
        return joined if torch_rank is None else _of_rank(joined, torch_rank)
    values, form = tensor.values, tensor.dtype.format
    if isinstance(form, IntegerFormat):
        values = values.to(form.torch_dtype)
    elif not isinstance(form, FloatFormat):
        values = values.to(torch.float32)
    if torch_rank is not None:
        values = _of_rank(values, torch_rank)
    return values.to(device="cpu", dtype=dtype or values.dtype, copy=True)


def _of_rank(values: torch.Tensor, rank: int) -> torch.Tensor:
    while values.ndim > rank:
        if values.shape[0] != 1:
            raise EmulatorError(f"ttnn.to_torch: {list(values.shape)} cannot be squeezed to rank {rank}")
        values = values.squeeze(0)
    return values


@operation("ttnn.to_device", accepts="queue_id", on_host=True)
def to_device(tensor: Tensor, device: Device, memory_config: MemoryConfig | None = None) -> Tensor:
    """The tensor in a device's memory."""
    if not isinstance(device, Device):
        raise EmulatorError(f"ttnn.to_device: device={device!r} is not an emulated device")
    device.check_open("ttnn.to_device")
    memory_config = memory_config or DRAM_MEMORY_CONFIG
    check_shards("ttnn.to_device", memory_config, tensor.shape)
    moved = tensor.data.to(device.torch_device)
    data = unshared(device.engine.hold(moved, tensor.dtype.format), tensor.data)
    return Tensor(data, tensor.dtype, tensor.layout, device, memory_config)


@operation("ttnn.from_device", accepts="queue_id", on_host=True)
def from_device(tensor: Tensor, blocking: bool = True) -> Tensor:
    """The tensor on the host."""
    return tensor.cpu(blocking)


@operation("ttnn.to_layout", on_host=True)
def to_layout(
    tensor: Tensor,
    layout: Layout,
    dtype: DataType | None = None,
    memory_config: MemoryConfig | None = None,
    sub_core_grids: object | None = None,
    pad_value: float = 0.0,
) -> Tensor:
    """The same values in tiles or in rows; padding of tiles is not visible in the emulator."""
    if not isinstance(layout, Layout):
        raise EmulatorError(f"ttnn.to_layout: layout={layout!r}; give ttnn.TILE_LAYOUT or ttnn.ROW_MAJOR_LAYOUT")
    target = dtype or tensor.dtype
    if layout is Layout.ROW_MAJOR and target.is_block:
        raise EmulatorError(f"ttnn.to_layout: {target} exists in TILE_LAYOUT only; typecast it first")
    if target is not tensor.dtype:
        tensor = typecast(tensor, target) if tensor.device() is not None else to_dtype(tensor, target)
    output = Tensor(tensor.data, target, layout, tensor.device(), tensor.memory_config())
    if memory_config is not None:
        output.place(memory_config)
    return output


@operation("ttnn.typecast", accepts="memory_config output_tensor sub_core_grids")
def typecast(
    input_tensor: Tensor,
    dtype: DataType | None = None,
    output_dtype: DataType | None = None,
    *,
    input_dtype: DataType | None = None,
) -> Tensor:
    """The tensor in another data type, converted on the device; of two data types the second is the new one."""
    target = output_dtype or dtype
    if target is None:
        raise EmulatorError("ttnn.typecast: give the data type to convert to")
    engine = device_of(input_tensor).engine
    values = engine.cast(input_tensor.values, input_tensor.dtype.format, target.format)
    return result(values, input_tensor, target)


@operation("ttnn.to_dtype", on_host=True)
def to_dtype(tensor: Tensor, dtype: DataType) -> Tensor:
    """A host tensor in another data type, converted by the host."""
    if tensor.device() is not None:
        raise EmulatorError("ttnn.to_dtype: the tensor is on a device; use typecast")
    return Tensor(tensor.values, dtype, Layout.TILE if dtype.is_block else tensor.layout)


@operation("ttnn.to_memory_config", accepts="output_tensor")
def to_memory_config(tensor: Tensor, memory_config: MemoryConfig, dtype: DataType | None = None) -> Tensor:
    """The tensor placed elsewhere; a new data type is packed by the device."""
    check_shards("ttnn.to_memory_config", memory_config, tensor.shape)
    values = tensor.values
    if dtype is not None and dtype is not tensor.dtype:
        values = device_of(tensor).engine.repack(values, dtype.format)
    return Tensor(values, dtype or tensor.dtype, tensor.layout, tensor.device(), memory_config)


@operation("ttnn.clone", accepts="memory_config compute_kernel_config")
def clone(input: Tensor, *, dtype: DataType | None = None) -> Tensor:
    """A copy, packed in `dtype` when that differs."""
    if dtype is None or dtype is input.dtype:
        return result(input.values.clone(), input)
    return result(device_of(input).engine.repack(input.values, dtype.format), input, dtype)


@operation("ttnn.reallocate")
def reallocate(tensor: Tensor, memory_config: MemoryConfig | None = None) -> Tensor:
    """The tensor moved in memory; the old one is freed."""
    moved = result(tensor.values, tensor)
    moved.place(memory_config or tensor.memory_config())
    tensor.deallocate()
    return moved


def deallocate(tensor: Tensor, force: bool = True) -> None:
    """Frees a tensor; using it afterwards raises."""
    if not isinstance(tensor, Tensor):
        raise EmulatorError(f"ttnn.deallocate: {tensor!r} is not a tensor")
    tensor.deallocate(force)


@operation("ttnn.full", only={"optional_tensor": None})
def full(
    shape: Sequence[int],
    fill_value: float,
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: Device | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """A tensor of one value, bfloat16 unless told otherwise."""
    source = torch.full(tuple(shape), fill_value, dtype=torch.float64)
    return from_torch(source, dtype or DataType.BFLOAT16, layout=layout, device=device, memory_config=memory_config)


@operation("ttnn.zeros")
def zeros(
    shape: Sequence[int],
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: Device | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """A tensor of zeros."""
    return full(shape, 0.0, dtype, layout, device, memory_config)


@operation("ttnn.ones")
def ones(
    shape: Sequence[int],
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: Device | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """A tensor of ones."""
    return full(shape, 1.0, dtype, layout, device, memory_config)


@operation("ttnn.arange")
def arange(
    start: int,
    end: int | None = None,
    step: int = 1,
    *,
    dtype: DataType = DataType.BFLOAT16,
    device: Device | None = None,
    memory_config: MemoryConfig | None = None,
    layout: Layout = Layout.ROW_MAJOR,
) -> Tensor:
    """start, start + step, … below end; with one number, from 0 to it."""
    if end is None:
        start, end = 0, start
    source = torch.arange(start, end, step)
    return from_torch(source, dtype, layout=layout, device=device, memory_config=memory_config)
