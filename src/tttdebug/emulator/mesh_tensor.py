# SPDX-License-Identifier: Apache-2.0
"""A tensor of a mesh: one tensor per device, seen as one with the shape of a shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.mesh import (
    Mesh,
    MeshCoordinate,
    MeshShape,
    Placement,
    PlacementReplicate,
    PlacementShard,
)
from tttdebug.emulator.placement import MemoryConfig
from tttdebug.emulator.tensor import Shape, Tensor, next_tensor_id


@dataclass(frozen=True)
class TensorTopology:
    """How a tensor is spread over a mesh, as ops say it: what they did to the values does not always agree."""

    shape: MeshShape
    given: tuple[Placement, ...]

    def distribution_shape(self) -> MeshShape:
        return self.shape

    def placements(self) -> list[Placement]:
        return list(self.given)

    def mesh_coords(self) -> list[MeshCoordinate]:
        places = torch.cartesian_prod(*(torch.arange(size) for size in self.shape)).reshape(-1, len(self.shape))
        return [MeshCoordinate([int(i) for i in place]) for place in places]


def merged(topologies: Sequence[TensorTopology]) -> TensorTopology:
    """What an op of such operands says of its output: along each mesh axis the first shard that any of them has."""
    first = topologies[0]
    alike = [topology.given for topology in topologies if topology.shape == first.shape]
    axes = zip(*alike, strict=True)
    return TensorTopology(
        first.shape,
        tuple(next((place for place in axis if isinstance(place, PlacementShard)), axis[0]) for axis in axes),
    )


def placed_along(topology: TensorTopology, cluster_axis: int | None, placement: Placement) -> TensorTopology:
    """A topology with `placement` along one mesh axis; along all of them where it names none or has only one."""
    count = len(topology.given)
    chosen = range(count) if cluster_axis is None or count == 1 else [cluster_axis % count]
    return TensorTopology(
        topology.shape, tuple(placement if i in chosen else given for i, given in enumerate(topology.given))
    )


class MeshTensor(Tensor):
    """Tensors of one shape and data type, one on each device of a mesh (or all on the host, before `to_device`)."""

    def __init__(self, shards: Sequence[Tensor], mesh: Mesh | None, topology: TensorTopology | None = None) -> None:
        first = shards[0]
        for shard in shards:
            if shard.shape != first.shape or shard.dtype is not first.dtype:
                raise EmulatorError(f"tensor of a mesh: shards {shard} and {first} differ in shape or data type")
        self.shards = tuple(shards)
        self.topology = topology or TensorTopology(MeshShape(len(shards)), (PlacementReplicate(),))
        self._data = None
        self._shape = first.shape
        self._device = mesh
        self._memory_config = first.memory_config()
        self.dtype, self.layout, self.plan = first.dtype, first.layout, first.plan
        self.tensor_id = next_tensor_id()

    @property
    def data(self) -> torch.Tensor:
        raise EmulatorError(
            f"tensor {self.tensor_id} {self._shape} lies on {len(self.shards)} devices; read it with "
            "ttnn.to_torch(…, mesh_composer=…), or each of ttnn.get_device_tensors"
        )

    @property
    def values(self) -> torch.Tensor:
        return self.data

    @property
    def padded_shape(self) -> Shape:
        return self.shards[0].padded_shape

    def is_allocated(self) -> bool:
        return all(shard.is_allocated() for shard in self.shards)

    def deallocate(self, force: bool = True) -> None:
        for shard in self.shards:
            shard.deallocate(force)

    def memory_config(self) -> MemoryConfig:
        return self.shards[0].memory_config()

    def is_sharded(self) -> bool:
        return self.memory_config().is_sharded()

    def place(self, memory_config: MemoryConfig) -> None:
        for shard in self.shards:
            shard.place(memory_config)

    def cpu(self, blocking: bool = True, cq_id: object | None = None) -> MeshTensor:
        return MeshTensor([shard.cpu(blocking) for shard in self.shards], None, self.topology)

    def tensor_topology(self) -> TensorTopology:
        return self.topology

    def __repr__(self) -> str:
        state = "" if self.is_allocated() else ", deallocated"
        where = "host" if self._device is None else f"{len(self.shards)} devices"
        return f"Tensor(shape={self._shape}, dtype={self.dtype}, layout={self.layout}, {where}{state})"


def device_tensors(tensor: Tensor) -> list[Tensor]:
    """The tensor of each device; of a tensor on one device, itself."""
    return list(tensor.shards) if isinstance(tensor, MeshTensor) else [tensor]
