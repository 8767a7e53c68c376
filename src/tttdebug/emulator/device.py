# SPDX-License-Identifier: Apache-2.0
"""An emulated device: an architecture, a compute grid, an engine and the torch device that does the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from tttdebug.emulator.engines import Engine, make_engine
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import Arch
from tttdebug.emulator.placement import CoreCoord, CoreGrid


@dataclass(frozen=True)
class OpCall:
    """An op that a program calls and that has not run yet: the last moment to see what it overwrites or frees."""

    name: str
    engine: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]


@dataclass(frozen=True)
class OpRecord:
    """One executed op, as a device's observers see it: `plan` is what ttnn's host code decided (kernel, blocking)."""

    name: str
    engine: str
    inputs: tuple[object, ...]
    output: object
    plan: object | None


@dataclass
class Listeners:
    """Who is told of ops: `foretold` before each that a program calls, `observers` after it."""

    observers: list[Callable[[OpRecord], None]] = field(default_factory=list)
    foretold: list[Callable[[OpCall], None]] = field(default_factory=list)


ANY_DEVICE = Listeners()
"""Those who are told of the ops on every device."""


@dataclass
class Device:
    """A Wormhole or Blackhole chip that exists in torch only.

    `observers` are called with an OpRecord after each op that the program calls, `foretold` with an OpCall before it.
    """

    architecture: str
    grid: tuple[int, int]
    engine: Engine
    torch_device: torch.device
    device_id: int = 0
    observers: list[Callable[[OpRecord], None]] = field(default_factory=list)
    foretold: list[Callable[[OpCall], None]] = field(default_factory=list)
    is_open: bool = True

    def arch(self) -> Arch:
        return Arch(self.architecture)

    def compute_with_storage_grid_size(self) -> CoreCoord:
        return CoreCoord(*self.grid)

    @property
    def core_grid(self) -> CoreGrid:
        return CoreGrid(*self.grid)

    @property
    def shape(self) -> tuple[int, ...]:
        """The mesh that this device is: one by one."""
        return (1, 1)

    def id(self) -> int:
        return self.device_id

    def get_num_devices(self) -> int:
        return 1

    def get_device_ids(self) -> list[int]:
        return [self.device_id]

    def dram_grid_size(self) -> CoreCoord:
        """The DRAM banks: 12 of a Wormhole, 8 of a Blackhole."""
        return CoreCoord(12 if self.arch() is Arch.WORMHOLE_B0 else 8, 1)

    def enable_program_cache(self) -> None:
        """Accepted; there are no programs to cache."""

    def disable_and_clear_program_cache(self) -> None:
        """Accepted; there are no programs to cache."""

    def clear_program_cache(self) -> None:
        """Accepted; there are no programs to cache."""

    def num_program_cache_entries(self) -> int:
        return 0

    def create_sub_device_manager(self, sub_devices: object, local_l1_size: int = 0) -> int:
        """Accepted; the emulator has no sub-devices."""
        return 0

    def load_sub_device_manager(self, sub_device_manager_id: int) -> None:
        """Accepted; the emulator has no sub-devices."""

    def clear_loaded_sub_device_manager(self) -> None:
        """Accepted; the emulator has no sub-devices."""

    def remove_sub_device_manager(self, sub_device_manager_id: int) -> None:
        """Accepted; the emulator has no sub-devices."""

    def set_sub_device_stall_group(self, sub_device_ids: object) -> None:
        """Accepted; the emulator has no sub-devices."""

    def reset_sub_device_stall_group(self) -> None:
        """Accepted; the emulator has no sub-devices."""

    def close(self) -> None:
        self.is_open = False

    def check_open(self, op: str) -> None:
        if not self.is_open:
            raise EmulatorError(f"{op}: device {self.device_id} was closed")

    def __repr__(self) -> str:
        return (
            f"Device({self.architecture}, {self.grid[0]}x{self.grid[1]} cores, "
            f"engine={self.engine.name}, torch={self.torch_device})"
        )


def open_device(
    engine: str = "fast",
    architecture: str = "wormhole_b0",
    grid: tuple[int, int] = (8, 8),
    torch_device: str | torch.device = "cpu",
    device_id: int = 0,
) -> Device:
    """A new emulated device.

    `engine` is "ideal" (plain arithmetic, no formats), "fast" (TTNN's formats and roundings, sums modelled) or "exact"
    (the chip bit by bit); `grid` counts compute cores (x, y), 8×8 as on an n150. Raises EmulatorError on an unknown
    engine, architecture or grid.
    """
    try:
        arch = Arch(architecture)
    except ValueError:
        known = ", ".join(a.value for a in Arch)
        raise EmulatorError(f"open_device: architecture={architecture!r}; known are {known}") from None
    x, y = grid
    if x < 1 or y < 1:
        raise EmulatorError(f"open_device: grid={grid!r} has no cores")
    place = torch.device(torch_device)
    return Device(arch.value, (x, y), make_engine(engine, arch), place, device_id)


def close_device(device: Device) -> None:
    """Closes the device; from then on every op on its tensors raises."""
    device.close()
