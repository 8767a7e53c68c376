# SPDX-License-Identifier: Apache-2.0
"""Ops that move values between the devices of a mesh. On one device they give its tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tttdebug.emulator.collectives import Topology, gathered, parted, scattered_sums, summed
from tttdebug.emulator.device import Device
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import WormholeComputeKernelConfig
from tttdebug.emulator.mesh import Mesh, MeshCoordinate, MeshShape, Placement, PlacementReplicate, PlacementShard
from tttdebug.emulator.mesh_tensor import MeshTensor, TensorTopology, device_tensors, placed_along
from tttdebug.emulator.operation import device_of, operation, result
from tttdebug.emulator.tensor import Tensor

_LINKS = "num_links chunks_per_sync num_workers_per_link num_buffers_per_channel use_l1_small_for_semaphores"


def _groups(op: str, tensor: Tensor, cluster_axis: int | None) -> list[list[int]]:
    device = tensor.device()
    return device.groups(op, cluster_axis) if isinstance(device, Mesh) else [[0]]


def _joined(
    tensor: Tensor,
    values: Sequence[torch.Tensor],
    cluster_axis: int | None = None,
    placement: Placement | None = None,
) -> Tensor:
    """The outputs of the devices as a tensor of their mesh, with `placement` along the axis that they talked over.

    Without one the tensor's own topology stays. Block formats are packed where groups were torn apart.
    """
    shards = device_tensors(tensor)
    outputs = []
    for shard, value in zip(shards, values, strict=True):
        own = value.contiguous()
        if shard.dtype.is_block:
            own = device_of(shard).engine.repack(own, shard.dtype.format)
        outputs.append(result(own.clone(), shard))
    if not isinstance(tensor, MeshTensor):
        return outputs[0]
    device = tensor.device()
    assert isinstance(device, Mesh)
    if placement is None:
        return MeshTensor(outputs, device, tensor.topology)
    if cluster_axis is None and isinstance(placement, PlacementShard):  # the devices count as one line
        return MeshTensor(outputs, device, TensorTopology(MeshShape(len(outputs)), (placement,)))
    return MeshTensor(outputs, device, placed_along(tensor.topology, cluster_axis, placement))


def _ring(topology: Topology | None) -> Topology:
    return Topology.Ring if topology is None else topology


def gather_over(op: str, tensor: Tensor, dim: int, cluster_axis: int | None) -> Tensor:
    """On every device the tensors of its group joined along `dim`."""
    shards = device_tensors(tensor)
    if not -len(tensor.shape) <= dim < len(tensor.shape):
        raise EmulatorError(f"{op}: dim={dim} of a tensor with {len(tensor.shape)} dimensions, {tensor.shape}")
    values: list[torch.Tensor] = [shard.values for shard in shards]
    outputs = list(values)
    for group in _groups(op, tensor, cluster_axis):
        together = gathered([values[i] for i in group], dim)
        for i in group:
            outputs[i] = together
    return _joined(tensor, outputs, cluster_axis, PlacementReplicate())


def scatter_sums_over(op: str, tensor: Tensor, dim: int, cluster_axis: int | None, topology: Topology) -> Tensor:
    """On every device its part along `dim` of the sum over its group."""
    shards = device_tensors(tensor)
    outputs = [shard.values for shard in shards]
    for group in _groups(op, tensor, cluster_axis):
        members = [shards[i] for i in group]
        sums = scattered_sums(
            op, [m.values for m in members], dim, topology, tensor.dtype, [device_of(m) for m in members]
        )
        for i, part in zip(group, sums, strict=True):
            outputs[i] = part
    return _joined(tensor, outputs, cluster_axis, PlacementShard(dim % len(tensor.shape)))


def sum_over(op: str, tensor: Tensor, cluster_axis: int | None, topology: Topology) -> Tensor:
    """On every device the sum over its group: scattered along the last dimension that divides, and gathered again.

    Where none divides, every device's sum is made at the group's last device.
    """
    shards = device_tensors(tensor)
    outputs = [shard.values for shard in shards]
    for group in _groups(op, tensor, cluster_axis):
        members = [shards[i] for i in group]
        values, devices = [m.values for m in members], [device_of(m) for m in members]
        count = len(group)
        dim = next((d for d in range(len(tensor.shape) - 1, -1, -1) if tensor.shape[d] % count == 0), None)
        if dim is None:
            total = summed(values, count - 1, topology, tensor.dtype, devices[-1])
        else:
            total = gathered(scattered_sums(op, values, dim, topology, tensor.dtype, devices), dim)
        for i in group:
            outputs[i] = total
    return _joined(tensor, outputs, cluster_axis, PlacementReplicate())


@operation(
    "ttnn.all_gather", accepts=f"memory_config output_tensor subdevice_id sub_core_grids {_LINKS}", across_mesh=True
)
def all_gather(
    input_tensor: Tensor, dim: int, *, cluster_axis: int | None = None, topology: Topology | None = None
) -> Tensor:
    """On every device the tensors of all devices (along one axis of the mesh) joined along `dim`."""
    return gather_over("ttnn.all_gather", input_tensor, dim, cluster_axis)


@operation(
    "ttnn.reduce_scatter",
    accepts=f"memory_config intermediate_memory_config output_tensor subdevice_id {_LINKS}",
    across_mesh=True,
)
def reduce_scatter(
    input_tensor: Tensor,
    dim: int,
    *,
    cluster_axis: int | None = None,
    topology: Topology | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """On every device its part along `dim` of the sum of all devices' tensors."""
    return scatter_sums_over("ttnn.reduce_scatter", input_tensor, dim, cluster_axis, _ring(topology))


@operation("ttnn.all_reduce", accepts="memory_config subdevice_id num_links", across_mesh=True)
def all_reduce(input_tensor: Tensor, *, cluster_axis: int | None = None, topology: Topology | None = None) -> Tensor:
    """On every device the sum of all devices' tensors."""
    return sum_over("ttnn.all_reduce", input_tensor, cluster_axis, _ring(topology))


@operation("ttnn.mesh_partition", accepts="memory_config", across_mesh=True)
def mesh_partition(input_tensor: Tensor, dim: int, cluster_axis: int | None = None) -> Tensor:
    """Each device keeps its part of its own tensor along `dim`."""
    op = "ttnn.mesh_partition"
    outputs = [shard.values for shard in device_tensors(input_tensor)]
    for group in _groups(op, input_tensor, cluster_axis):
        for place, i in enumerate(group):
            outputs[i] = parted(op, outputs[i], dim, len(group))[place]
    return _joined(input_tensor, outputs)


@operation(
    "ttnn.all_broadcast",
    accepts="memory_config subdevice_id num_links topology use_l1_small_for_semaphores",
    across_mesh=True,
)
def all_broadcast(input_tensor: Tensor, *, cluster_axis: int | None = None) -> list[Tensor]:
    """The tensors of all devices, each on every device."""
    groups = _groups("ttnn.all_broadcast", input_tensor, cluster_axis)
    values = [shard.values for shard in device_tensors(input_tensor)]
    copies = []
    for sender in range(len(groups[0])):
        outputs = list(values)
        for group in groups:
            for i in group:
                outputs[i] = values[group[sender]]
        copies.append(_joined(input_tensor, outputs))
    return copies


@operation("ttnn.broadcast", accepts="memory_config num_links topology subdevice_id", across_mesh=True)
def broadcast(input_tensor: Tensor, sender_coord: MeshCoordinate, *, cluster_axis: int | None = None) -> Tensor:
    """The sender's tensor on every device of its group."""
    op = "ttnn.broadcast"
    outputs = [shard.values for shard in device_tensors(input_tensor)]
    sender = _flat(op, input_tensor, sender_coord)
    for group in _groups(op, input_tensor, cluster_axis):
        if sender in group:
            for i in group:
                outputs[i] = outputs[sender]
    return _joined(input_tensor, outputs)


@operation(
    "ttnn.point_to_point", accepts="output_tensor topology", only={"intermediate_tensor": None}, across_mesh=True
)
def point_to_point(input_tensor: Tensor, sender_coord: MeshCoordinate, receiver_coord: MeshCoordinate) -> Tensor:
    """The sender's tensor on the receiver; the other devices keep theirs."""
    op = "ttnn.point_to_point"
    outputs = [shard.values for shard in device_tensors(input_tensor)]
    outputs[_flat(op, input_tensor, receiver_coord)] = outputs[_flat(op, input_tensor, sender_coord)]
    return _joined(input_tensor, outputs)


def _flat(op: str, tensor: Tensor, coordinate: MeshCoordinate) -> int:
    """The number of the device at a place of the mesh."""
    device = tensor.device()
    shape: Sequence[int] = device.shape if isinstance(device, Device) else (1, 1)
    if len(coordinate) != len(shape) or any(not 0 <= c < s for c, s in zip(coordinate, shape, strict=True)):
        raise EmulatorError(f"{op}: {coordinate!r} is no place in a mesh of {list(shape)}")
    place = 0
    for c, s in zip(coordinate, shape, strict=True):
        place = place * s + c
    return place
