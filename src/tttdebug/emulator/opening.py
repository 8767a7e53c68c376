# SPDX-License-Identifier: Apache-2.0
"""Opening devices and meshes as ttnn does, and what kind of device an unchanged program then gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tttdebug.emulator.device import Device, close_device
from tttdebug.emulator.device import open_device as open_emulated
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.mesh import Mesh, MeshCoordinate, MeshShape


@dataclass(frozen=True)
class DeviceOptions:
    """The devices that `ttnn.open_device` and `ttnn.open_mesh_device` open; ttnn itself has no word for these."""

    engine: str = "fast"
    architecture: str = "wormhole_b0"
    grid: tuple[int, int] = (8, 8)
    torch_device: str = "cpu"

    def open(self, device_id: int) -> Device:
        return open_emulated(self.engine, self.architecture, self.grid, self.torch_device, device_id)


@dataclass
class _State:
    options: DeviceOptions
    opened: dict[int, Device]
    default: Device | None = None


_state = _State(DeviceOptions(), {})


def current_options() -> DeviceOptions:
    """The options that devices are opened with now."""
    return _state.options


@contextmanager
def device_options(options: DeviceOptions) -> Iterator[None]:
    """For the length of a `with` block, devices are opened with these options."""
    before = use_options(options)
    try:
        yield
    finally:
        use_options(before)


def use_options(options: DeviceOptions) -> DeviceOptions:
    """From now on devices are opened with these options; gives those that held before."""
    before, _state.options = _state.options, options
    _state.opened.clear()  # a device of other options is not what a later program asks for
    return before


def open_device(
    *,
    device_id: int,
    l1_small_size: int = 0,
    trace_region_size: int = 0,
    num_command_queues: int = 1,
    dispatch_core_config: object | None = None,
    worker_l1_size: int = 0,
) -> Device:
    """An emulated Wormhole with 8×8 cores and the `fast` engine; `tttdebug.emulator.open_device` chooses others.

    The device that is already open under this number is given again.
    """
    if device_id not in _state.opened or not _state.opened[device_id].is_open:
        _state.opened[device_id] = _state.options.open(device_id)
    return _state.opened[device_id]


@contextmanager
def manage_device(device_id: int) -> Iterator[Device]:
    """`open_device` for the length of a `with` block."""
    device = open_device(device_id=device_id)
    try:
        yield device
    finally:
        close_device(device)


def open_mesh_device(
    mesh_shape: MeshShape | Sequence[int] | None = None,
    l1_small_size: int = 0,
    trace_region_size: int = 0,
    num_command_queues: int = 1,
    dispatch_core_config: object | None = None,
    offset: MeshCoordinate | None = None,
    physical_device_ids: Sequence[int] = (),
    worker_l1_size: int = 0,
) -> Device:
    """A mesh of `mesh_shape` emulated devices, one by one when it is not given."""
    shape = MeshShape(1, 1) if mesh_shape is None else MeshShape(mesh_shape)
    ids = list(physical_device_ids) or list(range(shape.mesh_size()))
    if len(ids) != shape.mesh_size():
        raise EmulatorError(f"ttnn.open_mesh_device: {len(ids)} physical_device_ids for a mesh of {shape}")
    return open_mesh(shape, _state.options, ids)


def open_mesh(shape: Sequence[int], options: DeviceOptions, device_ids: Sequence[int] = ()) -> Device:
    """A mesh of emulated devices with these options; of one device, that device."""
    mesh_shape = MeshShape(shape)
    devices = tuple(options.open(device_id) for device_id in device_ids or range(mesh_shape.mesh_size()))
    if len(devices) == 1:
        return devices[0]
    first = devices[0]
    return Mesh(
        first.architecture, first.grid, first.engine, first.torch_device, devices=devices, mesh_shape=mesh_shape
    )


@contextmanager
def create_mesh_device(
    mesh_shape: MeshShape | Sequence[int] | None = None,
    l1_small_size: int = 0,
    trace_region_size: int = 0,
    num_command_queues: int = 1,
    dispatch_core_config: object | None = None,
    offset: MeshCoordinate | None = None,
    physical_device_ids: Sequence[int] = (),
    worker_l1_size: int = 0,
) -> Iterator[Device]:
    """`open_mesh_device` for the length of a `with` block."""
    mesh = open_mesh_device(mesh_shape, offset=offset, physical_device_ids=physical_device_ids)
    try:
        yield mesh
    finally:
        close_mesh_device(mesh)


def close_mesh_device(mesh_device: Device) -> None:
    """Closes every device of the mesh."""
    if not isinstance(mesh_device, Device):
        raise EmulatorError(f"ttnn.close_mesh_device: {mesh_device!r} is not an emulated device")
    mesh_device.close()


def SetDefaultDevice(device: Device | None = None) -> None:
    """Remembers a device for `GetDefaultDevice`; the emulator's ops take theirs from their tensors."""
    _state.default = device


def GetDefaultDevice() -> Device | None:
    return _state.default
