# SPDX-License-Identifier: Apache-2.0
"""Values that programs hand to ttnn and that change no result here: dispatch cores, sub-devices, program configs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.placement import CoreCoord, CoreRangeSet


class DispatchCoreType(Enum):
    """Which cores dispatch."""

    WORKER = 0
    ETH = 1


class DispatchCoreAxis(Enum):
    """Along which line the dispatching cores lie."""

    ROW = 0
    COL = 1


@dataclass(frozen=True)
class DispatchCoreConfig:
    """How commands reach the chip."""

    type: DispatchCoreType | None = None
    axis: DispatchCoreAxis | None = None
    fabric_tensix_config: object | None = None


@dataclass(frozen=True)
class SubDevice:
    """A part of a device's cores."""

    cores: list[CoreRangeSet] = field(default_factory=list)


@dataclass(frozen=True)
class SubDeviceId:
    """The number of a sub-device."""

    id: int


class EmbeddingsType(Enum):
    """How an embedding's table is read."""

    GENERIC = 0
    PADDED = 1
    BINARY = 2


class SigmoidMode(Enum):
    """Which sigmoid; the emulator has the accurate one."""

    Accurate = 0
    AccurateWithFastExp = 1
    FastApproximate = 2


class ReduceType(Enum):
    """What a reducing collective does; the emulator sums."""

    Sum = 0
    Mean = 1
    Max = 2
    Min = 3
    Std = 4
    Var = 5
    Prod = 6


@dataclass(frozen=True)
class SoftmaxDefaultProgramConfig:
    """Softmax of an interleaved tensor."""


@dataclass(kw_only=True)
class SoftmaxShardedMultiCoreProgramConfig:
    """How softmax is spread over cores; the emulator computes each row as a whole."""

    compute_with_storage_grid_size: CoreCoord | tuple[int, int]
    subblock_w: int
    block_h: int
    block_w: int


@dataclass(frozen=True)
class Tile:
    """A tile's size; the emulator knows 32×32."""

    tile_shape: tuple[int, int] = (32, 32)
    transpose_tile: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile_shape", tuple(self.tile_shape))
        if self.tile_shape != (32, 32) or self.transpose_tile:
            raise EmulatorError(f"Tile: {self.tile_shape}, transposed={self.transpose_tile}; only 32×32 is emulated")


STANDARD_TILE = Tile()
