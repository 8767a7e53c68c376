# SPDX-License-Identifier: Apache-2.0
"""Tensors of a mesh taken apart and put together by hand, and what is asked of a mesh before it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

from tttdebug.emulator.device import Device
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.mesh import Mesh, MeshComposer, MeshMapper, MeshShape
from tttdebug.emulator.mesh_tensor import MeshTensor, device_tensors
from tttdebug.emulator.ops.creation import default_mappings, from_torch, to_device, to_torch
from tttdebug.emulator.tensor import Tensor


class FabricConfig(Enum):
    """How chips talk to each other; it changes no value."""

    DISABLED = 0
    FABRIC_1D_NEIGHBOR_EXCHANGE = 1
    FABRIC_1D = 2
    FABRIC_1D_RING = 3
    FABRIC_2D = 4
    FABRIC_2D_TORUS_X = 5
    FABRIC_2D_TORUS_Y = 6
    FABRIC_2D_TORUS_XY = 7
    CUSTOM = 8


class FabricReliabilityMode(Enum):
    """What happens when a link does not come up; emulated links always do."""

    STRICT_INIT = 0
    RELAXED_INIT = 1
    DYNAMIC_RECONFIG = 2


class FabricTensixConfig(Enum):
    """Whether cores help the links; it changes no value."""

    DISABLED = 0
    MUX = 1


class FabricUDMMode(Enum):
    """Whether data moves in the unified way; it changes no value."""

    DISABLED = 0
    ENABLED = 1


class FabricManagerMode(Enum):
    """Who starts the links; it changes no value."""

    DEFAULT = 0
    ENABLED = 1
    INIT_FABRIC = 2
    TERMINATE_FABRIC = 3


class _Fabric:
    config = FabricConfig.DISABLED


def set_fabric_config(
    config: FabricConfig,
    reliability_mode: FabricReliabilityMode = FabricReliabilityMode.STRICT_INIT,
    num_planes: int | None = None,
    fabric_tensix_config: FabricTensixConfig = FabricTensixConfig.DISABLED,
    fabric_udm_mode: FabricUDMMode = FabricUDMMode.DISABLED,
    fabric_manager_mode: FabricManagerMode = FabricManagerMode.DEFAULT,
    router_config: object | None = None,
) -> None:
    """Remembered for `get_fabric_config`; no value depends on it."""
    if not isinstance(config, FabricConfig):
        raise EmulatorError(f"ttnn.set_fabric_config: config={config!r} is not a ttnn.FabricConfig")
    _Fabric.config = config


def get_fabric_config() -> FabricConfig:
    return _Fabric.config


def get_device_tensors(tensor: Tensor) -> list[Tensor]:
    """The tensor of each device, in the order of the mesh."""
    if not isinstance(tensor, Tensor):
        raise EmulatorError(f"ttnn.get_device_tensors: {tensor!r} is not a tensor")
    return device_tensors(tensor)


def from_host_shards(tensors: Sequence[Tensor], mesh_shape: MeshShape) -> Tensor:
    """A host tensor for a mesh, of a host tensor per device."""
    op = "ttnn.from_host_shards"
    if len(tensors) != MeshShape(mesh_shape).mesh_size():
        raise EmulatorError(f"{op}: {len(tensors)} tensors for a mesh of {MeshShape(mesh_shape)}")
    for tensor in tensors:
        if tensor.device() is not None:
            raise EmulatorError(f"{op}: {tensor} is on a device; move it to the host with cpu()")
    return tensors[0] if len(tensors) == 1 else MeshTensor(list(tensors), None)


def combine_device_tensors(*, tensors: Sequence[Tensor]) -> Tensor:
    """A tensor of a mesh, of a tensor on each of its devices as get_device_tensors gives them."""
    op = "ttnn.combine_device_tensors"
    devices = [tensor.device() for tensor in tensors]
    if not tensors or any(device is None for device in devices):
        raise EmulatorError(f"{op}: give tensors that are on devices")
    mesh = next((m for m in Mesh.opened() if [id(d) for d in m.devices] == [id(d) for d in devices]), None)
    if mesh is None:
        if len(tensors) == 1:
            return tensors[0]
        raise EmulatorError(f"{op}: the tensors do not lie on the devices of one open mesh, in its order")
    return MeshTensor(list(tensors), mesh)


def aggregate_tensor(tensor: Tensor, composer: MeshComposer) -> Tensor:
    """One host tensor of the devices' tensors."""
    return from_torch(to_torch(tensor, mesh_composer=composer), tensor.dtype, layout=tensor.layout)


def distribute_tensor(tensor: Tensor, mapper: MeshMapper, mesh_device: Device | None = None) -> Tensor:
    """A host tensor spread as a mapper says, and put on a mesh when one is given."""
    if tensor.device() is not None:
        raise EmulatorError(f"ttnn.distribute_tensor: {tensor} is on a device; move it to the host with cpu()")
    spread = from_torch(tensor.values, tensor.dtype, layout=tensor.layout, mesh_mapper=mapper)
    return spread if mesh_device is None else to_device(spread, mesh_device)


@contextmanager
def distribute(default: MeshMapper | MeshComposer) -> Iterator[None]:
    """For the length of a `with` block, from_torch spreads, or to_torch joins, as this mapper or composer says."""
    if not isinstance(default, (MeshMapper, MeshComposer)):
        raise EmulatorError(f"ttnn.distribute: {default!r} is neither a mapper nor a composer")
    default_mappings.append(default)
    try:
        yield
    finally:
        default_mappings.remove(default)


def get_num_devices() -> int:
    """How many devices there are; emulated ones are made when they are opened, so this says one."""
    return 1


def get_device_ids() -> list[int]:
    return [0]


def copy_host_to_device_tensor(host_tensor: Tensor, device_tensor: Tensor, cq_id: Any = None) -> None:
    """Writes a host tensor's values into a device tensor of the same shape and data type."""
    op = "ttnn.copy_host_to_device_tensor"
    for host, on_device in zip(device_tensors(host_tensor), device_tensors(device_tensor), strict=True):
        device = on_device.device()
        if host.device() is not None or device is None:
            raise EmulatorError(f"{op}: the first tensor must be on the host, the second on a device")
        if host.shape != on_device.shape or host.dtype is not on_device.dtype:
            raise EmulatorError(f"{op}: {host} does not fit {on_device}")
        on_device.replace(device.engine.hold(host.data.to(device.torch_device), host.dtype.format).clone())


def copy_device_to_host_tensor(
    device_tensor: Tensor, host_tensor: Tensor, blocking: bool = True, cq_id: Any = None
) -> None:
    """Writes a device tensor's values into a host tensor of the same shape and data type."""
    op = "ttnn.copy_device_to_host_tensor"
    for on_device, host in zip(device_tensors(device_tensor), device_tensors(host_tensor), strict=True):
        if host.device() is not None or on_device.device() is None:
            raise EmulatorError(f"{op}: the first tensor must be on a device, the second on the host")
        if host.shape != on_device.shape or host.dtype is not on_device.dtype:
            raise EmulatorError(f"{op}: {on_device} does not fit {host}")
        host.replace(on_device.values.detach().clone())
