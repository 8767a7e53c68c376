# SPDX-License-Identifier: Apache-2.0
"""Meshes of devices, and how a host tensor is spread over one and put together again.

Devices are counted row by row. A mesh of one device is that device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from tttdebug.emulator.device import Device
from tttdebug.emulator.errors import EmulatorError


class MeshShape(tuple[int, ...]):
    """The number of devices along each axis of a mesh: MeshShape(2, 4) or MeshShape([2, 4])."""

    def __new__(cls, *sizes: int | Iterable[int]) -> MeshShape:
        flat = [int(s) for size in sizes for s in ([size] if isinstance(size, int) else size)]
        if not flat or min(flat) < 1:
            raise EmulatorError(f"MeshShape: {sizes!r}; give the number of devices along each axis, 1 or more")
        return super().__new__(cls, flat)

    def mesh_size(self) -> int:
        return math.prod(self)

    def dims(self) -> int:
        return len(self)

    def __repr__(self) -> str:
        return f"MeshShape({list(self)})"


class MeshCoordinate(tuple[int, ...]):
    """A device's place in a mesh: MeshCoordinate(0, 1) or MeshCoordinate([0, 1])."""

    def __new__(cls, *places: int | Iterable[int]) -> MeshCoordinate:
        return super().__new__(
            cls, [int(p) for place in places for p in ([place] if isinstance(place, int) else place)]
        )

    def dims(self) -> int:
        return len(self)

    def __repr__(self) -> str:
        return f"MeshCoordinate({list(self)})"


@dataclass
class Mesh(Device):
    """Several emulated devices of one kind; ops run on each of them, on its own shard of every tensor."""

    devices: tuple[Device, ...] = ()
    mesh_shape: MeshShape = field(default_factory=lambda: MeshShape(1, 1))

    def __post_init__(self) -> None:
        _open_meshes.append(self)

    @staticmethod
    def opened() -> list[Mesh]:
        """The meshes that are open."""
        return list(_open_meshes)

    @property
    def shape(self) -> MeshShape:
        return self.mesh_shape

    def get_num_devices(self) -> int:
        return len(self.devices)

    def get_device_ids(self) -> list[int]:
        return [device.device_id for device in self.devices]

    def close(self) -> None:
        super().close()
        for device in self.devices:
            device.close()
        _open_meshes[:] = [mesh for mesh in _open_meshes if mesh is not self]

    def groups(self, op: str, cluster_axis: int | None) -> list[list[int]]:
        """The devices that talk to each other: those that differ along `cluster_axis` only, or all of them."""
        count = len(self.devices)
        if cluster_axis is None:
            return [list(range(count))]
        if not 0 <= cluster_axis < len(self.mesh_shape):
            raise EmulatorError(f"{op}: cluster_axis={cluster_axis}; the mesh {self.mesh_shape} has no such axis")
        order = torch.arange(count).reshape(self.mesh_shape).movedim(cluster_axis, -1)
        return [[int(i) for i in line] for line in order.reshape(-1, self.mesh_shape[cluster_axis])]

    def __repr__(self) -> str:
        return f"MeshDevice({self.mesh_shape[0]}x{math.prod(self.mesh_shape[1:])} of {self.devices[0]})"


_open_meshes: list[Mesh] = []


@dataclass(frozen=True)
class PlacementReplicate:
    """Every device along this mesh axis holds the same."""

    def __repr__(self) -> str:
        return "PlacementReplicate()"


@dataclass(frozen=True)
class PlacementShard:
    """The devices along this mesh axis hold consecutive parts along `dim`."""

    dim: int

    def __repr__(self) -> str:
        return f"PlacementShard({self.dim})"


Placement = PlacementReplicate | PlacementShard


class MeshMapperConfig:
    """A placement for each mesh axis: a list, or `row_dim` and `col_dim` of a 2D mesh (None replicates)."""

    def __init__(
        self,
        placements: Sequence[Placement] | int | None = None,
        mesh_shape_override: MeshShape | None = None,
        *,
        row_dim: int | None = None,
        col_dim: int | None = None,
    ) -> None:
        if placements is None or isinstance(placements, int):
            dims = (row_dim if placements is None else placements, col_dim)
            placements = [PlacementReplicate() if dim is None else PlacementShard(dim) for dim in dims]
        for placement in placements:
            if not isinstance(placement, (PlacementReplicate, PlacementShard)):
                raise EmulatorError(
                    f"MeshMapperConfig: placement {placement!r}; give PlacementShard(dim) or PlacementReplicate()"
                )
        self.placements = tuple(placements)
        self.mesh_shape_override = mesh_shape_override

    def __repr__(self) -> str:
        """As ttnn writes it; programs read the dimensions out of it."""
        return f"MeshMapperConfig(placements: {list(self.placements)}{_override(self.mesh_shape_override)})"


class MeshComposerConfig:
    """The tensor dimension that each mesh axis is joined along: a list, or `row_dim` and `col_dim` of a 2D mesh."""

    def __init__(
        self,
        dims: Sequence[int] | int | None = None,
        mesh_shape_override: MeshShape | None = None,
        *,
        row_dim: int | None = None,
        col_dim: int | None = None,
    ) -> None:
        if dims is None or isinstance(dims, int):
            row = row_dim if dims is None else dims
            if row is None or col_dim is None:
                raise EmulatorError("MeshComposerConfig: give dims=[…], or row_dim and col_dim")
            dims = [row, col_dim]
        self.dims = tuple(dims)
        self.mesh_shape_override = mesh_shape_override

    def __repr__(self) -> str:
        return f"MeshComposerConfig(dims: {list(self.dims)}{_override(self.mesh_shape_override)})"


def _override(shape: MeshShape | None) -> str:
    return "" if shape is None else f", mesh_shape_override={shape}"


@dataclass(frozen=True, eq=False)
class MeshMapper:
    """Spreads a host tensor over a mesh seen as `shape`, a placement for each of its axes."""

    mesh_device: Device
    placements: tuple[Placement, ...]
    shape: MeshShape

    def split(self, x: torch.Tensor) -> list[torch.Tensor]:
        """A tensor per device. Raises EmulatorError where a size does not divide by the devices along an axis."""
        parts = [x]
        for placement, count in zip(self.placements, self.shape, strict=True):
            parts = [piece for part in parts for piece in _placed(part, placement, count)]
        return parts


@dataclass(frozen=True, eq=False)
class MeshComposer:
    """Puts the tensors of a mesh seen as `shape` together: axis by axis along `dims`."""

    mesh_device: Device
    dims: tuple[int, ...]
    shape: MeshShape

    def join(self, shards: Sequence[torch.Tensor]) -> torch.Tensor:
        """One tensor of the shards; along an axis that `shape` gives the size 1, the first device stands for all."""
        parts = [shards[i] for i in self._members(len(shards))]
        for dim, count in zip(reversed(self.dims), reversed(self.shape), strict=True):
            parts = [torch.cat(parts[i : i + count], dim) for i in range(0, len(parts), count)]
        return parts[0]

    def _members(self, count: int) -> list[int]:
        mesh_shape = tuple(self.mesh_device.shape)
        if len(self.shape) == len(mesh_shape) and math.prod(mesh_shape) == count:
            order = torch.arange(count).reshape(mesh_shape)
            return [int(i) for i in order[tuple(slice(size) for size in self.shape)].reshape(-1)]
        return list(range(min(count, math.prod(self.shape))))


def _placed(x: torch.Tensor, placement: Placement, count: int) -> Sequence[torch.Tensor]:
    if isinstance(placement, PlacementReplicate):
        return [x] * count
    if not -x.ndim <= placement.dim < x.ndim or x.shape[placement.dim] % count:
        raise EmulatorError(
            f"mesh mapper: {list(x.shape)} cannot be divided along dimension {placement.dim} over {count} devices"
        )
    return x.chunk(count, placement.dim)


def create_mesh_mapper(mesh_device: Device, config: MeshMapperConfig) -> MeshMapper:
    """A mapper as `config` says. Raises EmulatorError when it has not a placement for each axis of the mesh."""
    shape = _seen_as("create_mesh_mapper", mesh_device, config.mesh_shape_override, len(config.placements))
    return MeshMapper(mesh_device, config.placements, shape)


def create_mesh_composer(mesh_device: Device, config: MeshComposerConfig) -> MeshComposer:
    """A composer as `config` says. Raises EmulatorError when it has not a dimension for each axis of the mesh."""
    shape = _seen_as("create_mesh_composer", mesh_device, config.mesh_shape_override, len(config.dims))
    return MeshComposer(mesh_device, config.dims, shape)


def ShardTensorToMesh(mesh_device: Device, dim: int) -> MeshMapper:
    """Each device gets its part along `dim`, device after device."""
    line = MeshShape(mesh_device.get_num_devices())
    return create_mesh_mapper(mesh_device, MeshMapperConfig([PlacementShard(dim)], line))


def ReplicateTensorToMesh(mesh_device: Device) -> MeshMapper:
    """Every device gets the whole tensor."""
    line = MeshShape(mesh_device.get_num_devices())
    return create_mesh_mapper(mesh_device, MeshMapperConfig([PlacementReplicate()], line))


def ShardTensor2dMesh(
    mesh_device: Device, mesh_shape: tuple[int, int], dims: tuple[int | None, int | None]
) -> MeshMapper:
    """Rows of the mesh get parts along dims[0], columns along dims[1]; None replicates."""
    config = MeshMapperConfig(row_dim=dims[0], col_dim=dims[1], mesh_shape_override=MeshShape(mesh_shape))
    return create_mesh_mapper(mesh_device, config)


def ConcatMeshToTensor(mesh_device: Device, dim: int) -> MeshComposer:
    """The devices' tensors joined along `dim`, device after device."""
    return create_mesh_composer(mesh_device, MeshComposerConfig([dim], MeshShape(mesh_device.get_num_devices())))


def ConcatMesh2dToTensor(mesh_device: Device, mesh_shape: tuple[int, int], dims: tuple[int, int]) -> MeshComposer:
    """Rows of the mesh joined along dims[0], columns along dims[1]."""
    return create_mesh_composer(mesh_device, MeshComposerConfig(list(dims), MeshShape(mesh_shape)))


def shard_tensor_to_mesh_mapper(mesh_device: Device, dim: int) -> MeshMapper:
    """ShardTensorToMesh by another name."""
    return ShardTensorToMesh(mesh_device, dim)


def replicate_tensor_to_mesh_mapper(mesh_device: Device) -> MeshMapper:
    """ReplicateTensorToMesh by another name."""
    return ReplicateTensorToMesh(mesh_device)


def concat_mesh_to_tensor_composer(mesh_device: Device, dim: int) -> MeshComposer:
    """ConcatMeshToTensor by another name."""
    return ConcatMeshToTensor(mesh_device, dim)


def _seen_as(op: str, mesh_device: Device, override: MeshShape | None, axes: int) -> MeshShape:
    if not isinstance(mesh_device, Device):
        raise EmulatorError(f"{op}: mesh_device={mesh_device!r} is not an emulated device")
    shape = MeshShape(mesh_device.shape if override is None else override)
    if len(shape) != axes:
        raise EmulatorError(f"{op}: {axes} entries for a mesh of shape {shape}; give one for each axis")
    if shape.mesh_size() > mesh_device.get_num_devices():
        raise EmulatorError(f"{op}: shape {shape} on a mesh of {mesh_device.get_num_devices()} devices")
    return shape
