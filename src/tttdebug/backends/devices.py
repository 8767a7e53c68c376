# SPDX-License-Identifier: Apache-2.0
"""Devices: opened by name, closed in the end, each with the ttnn namespace its tensors belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from tttdebug.errors import DeviceError

Engine = Literal["ideal", "fast", "exact"]
Architecture = Literal["wormhole_b0", "blackhole"]


@dataclass(frozen=True)
class DeviceDescription:
    """What a run says of the device it used. `engine` is the emulator's engine, or "ttnn" for the real package."""

    kind: str
    engine: str
    architecture: str
    grid: tuple[int, int]


UNKNOWN = DeviceDescription("unknown", "unknown", "unknown", (0, 0))
"""What a run says of a device that it has not seen yet."""


def open_device(
    name: str = "emulated",
    *,
    engine: Engine = "fast",
    architecture: Architecture = "wormhole_b0",
    grid: tuple[int, int] = (8, 8),
    torch_device: str = "cpu",
) -> Any:
    """The device `name`: "emulated", or "ttnn" or "ttnn:ID" for a card or the vendor's simulator.

    What comes back is that package's own device object, so that code written for ttnn takes it. `engine` ("fast": the
    chip's formats and roundings at torch speed; "exact": the chip bit by bit, on the CPU; "ideal": plain fp32, which
    tells a wrong algorithm from coarse numbers), `architecture`, `grid` (compute cores, x by y) and `torch_device`
    shape the emulated device only.

    Raises DeviceError when the name is unknown, ttnn is not installed, or no device answers.
    """
    kind, _, number = name.partition(":")
    if kind == "emulated":
        from tttdebug.emulator import open_device as open_emulated

        return open_emulated(engine=engine, architecture=architecture, grid=grid, torch_device=torch_device)
    if kind == "ttnn" and (not number or number.isdigit()):
        return _open_real(int(number or 0))
    raise DeviceError(f"unknown device {name!r}: use 'emulated', 'ttnn' or 'ttnn:ID' with the number of a card")


def close_device(device: Any) -> None:
    """Release a device that `open_device` gave."""
    namespace_of(device).close_device(device)


@contextmanager
def opened_device(name: str = "emulated", **options: Any) -> Iterator[Any]:
    """`open_device` for the length of a `with` block."""
    device = open_device(name, **options)
    try:
        yield device
    finally:
        close_device(device)


def namespace_of(device: Any) -> Any:
    """The `ttnn` that drives `device`: the emulator's namespace for an emulated device, else the real package."""
    from tttdebug.emulator import Device, ttnn

    return ttnn if isinstance(device, Device) else _import_real()


def describe_device(device: Any) -> DeviceDescription:
    """Kind, engine, architecture and compute grid of an open device."""
    from tttdebug.emulator import Device

    if isinstance(device, Device):
        return DeviceDescription("emulated", device.engine.name, device.architecture, device.grid)
    grid = device.compute_with_storage_grid_size()
    return DeviceDescription("ttnn", "ttnn", str(device.arch()).rpartition(".")[2].lower(), (grid.x, grid.y))


def is_device(value: Any) -> bool:
    """Whether `value` is a device or a mesh of the emulator or of the real ttnn."""
    module, kinds = type(value).__module__, ("Device", "Mesh", "MeshDevice")
    return type(value).__name__ in kinds and module.startswith(("tttdebug.emulator", "ttnn"))


def _open_real(device_id: int) -> Any:
    ttnn = _import_real()
    try:
        return ttnn.open_device(device_id=device_id)
    except RuntimeError as error:  # what ttnn's own fatal checks raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise DeviceError(
            f"ttnn is installed but device {device_id} does not answer ({reason}); "
            "check the card with tt-smi, or use --device emulated"
        ) from error


def _import_real() -> Any:
    try:
        import ttnn
    except ImportError as error:
        raise DeviceError(
            f"the ttnn package cannot be imported ({error}); install it with: pip install 'tttdebug[ttnn]' "
            "(CPython 3.10 or 3.12 on x86-64 Linux), or use --device emulated"
        ) from error
    return ttnn
