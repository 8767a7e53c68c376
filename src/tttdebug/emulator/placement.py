# SPDX-License-Identifier: Apache-2.0
"""Where a tensor lies: memory configs, shards and cores. No value depends on it; the rules are checked all the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from tttdebug.emulator.dtypes import TILE, round_up
from tttdebug.emulator.errors import EmulatorError


class TensorMemoryLayout(Enum):
    """How a tensor's pages are spread over banks or cores."""

    INTERLEAVED = 0
    HEIGHT_SHARDED = 2
    WIDTH_SHARDED = 3
    BLOCK_SHARDED = 4


class BufferType(Enum):
    """Which memory holds a tensor."""

    DRAM = 0
    L1 = 1
    L1_SMALL = 3


class ShardOrientation(Enum):
    """The order in which shards are laid over cores."""

    ROW_MAJOR = 0
    COL_MAJOR = 1


class ShardStrategy(Enum):
    """Which dimensions `create_sharded_memory_config` splits."""

    HEIGHT = 0
    WIDTH = 1
    BLOCK = 2


@dataclass(frozen=True)
class CoreCoord:
    """A core's place in the compute grid."""

    x: int
    y: int


@dataclass(frozen=True)
class CoreGrid:
    """A rectangle of x × y cores, from the origin."""

    x: int
    y: int

    @property
    def num_cores(self) -> int:
        return self.x * self.y


@dataclass(frozen=True)
class CoreRange:
    """A rectangle of cores, both corners included."""

    start: CoreCoord
    end: CoreCoord

    def __post_init__(self) -> None:
        if self.end.x < self.start.x or self.end.y < self.start.y:
            raise EmulatorError(f"CoreRange: end {self.end} lies before start {self.start}")

    def num_cores(self) -> int:
        return (self.end.x - self.start.x + 1) * (self.end.y - self.start.y + 1)


class CoreRangeSet:
    """A set of core rectangles."""

    def __init__(self, core_ranges: Iterable[CoreRange]) -> None:
        self._ranges = tuple(sorted(core_ranges, key=lambda r: (r.start.y, r.start.x)))

    def ranges(self) -> list[CoreRange]:
        return list(self._ranges)

    def num_cores(self) -> int:
        return sum(core_range.num_cores() for core_range in self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoreRangeSet) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self._ranges)

    def __repr__(self) -> str:
        return f"CoreRangeSet({list(self._ranges)})"


@dataclass(frozen=True)
class ShardSpec:
    """Which cores hold shards of which shape."""

    grid: CoreRangeSet
    shape: tuple[int, int]
    orientation: ShardOrientation = ShardOrientation.ROW_MAJOR

    def __init__(self, grid: CoreRangeSet, shard_shape: Sequence[int], shard_orientation: ShardOrientation) -> None:
        if not isinstance(grid, CoreRangeSet) or len(shard_shape) != 2:
            raise EmulatorError(f"ShardSpec: needs a CoreRangeSet and two sizes, got {grid!r} and {shard_shape!r}")
        object.__setattr__(self, "grid", grid)
        object.__setattr__(self, "shape", (int(shard_shape[0]), int(shard_shape[1])))
        object.__setattr__(self, "orientation", shard_orientation)

    def num_cores(self) -> int:
        return self.grid.num_cores()


@dataclass(frozen=True)
class MemoryConfig:
    """Layout over banks, memory and, for a sharded tensor, its shards."""

    memory_layout: TensorMemoryLayout = TensorMemoryLayout.INTERLEAVED
    buffer_type: BufferType = BufferType.DRAM
    shard_spec: ShardSpec | None = None

    def is_sharded(self) -> bool:
        return self.memory_layout is not TensorMemoryLayout.INTERLEAVED


DRAM_MEMORY_CONFIG = MemoryConfig()
L1_MEMORY_CONFIG = MemoryConfig(buffer_type=BufferType.L1)
L1_BLOCK_SHARDED_MEMORY_CONFIG = MemoryConfig(TensorMemoryLayout.BLOCK_SHARDED, BufferType.L1)
L1_HEIGHT_SHARDED_MEMORY_CONFIG = MemoryConfig(TensorMemoryLayout.HEIGHT_SHARDED, BufferType.L1)
L1_WIDTH_SHARDED_MEMORY_CONFIG = MemoryConfig(TensorMemoryLayout.WIDTH_SHARDED, BufferType.L1)

_LAYOUT_OF = {
    ShardStrategy.HEIGHT: TensorMemoryLayout.HEIGHT_SHARDED,
    ShardStrategy.WIDTH: TensorMemoryLayout.WIDTH_SHARDED,
    ShardStrategy.BLOCK: TensorMemoryLayout.BLOCK_SHARDED,
}


def num_cores_to_corerangeset(target_num_cores: int, grid_size: CoreCoord, row_wise: bool = False) -> CoreRangeSet:
    """The first `target_num_cores` cores of the grid, row by row or column by column: full lines, then the rest."""
    long, lines = (grid_size.x, grid_size.y) if row_wise else (grid_size.y, grid_size.x)
    if not 1 <= target_num_cores <= long * lines:
        raise EmulatorError(
            f"ttnn.num_cores_to_corerangeset: {target_num_cores} cores of a grid of {grid_size.x}x{grid_size.y}; "
            f"ask for 1 to {long * lines}"
        )
    full, rest = divmod(target_num_cores, long)

    def core(along: int, line: int) -> CoreCoord:
        return CoreCoord(along, line) if row_wise else CoreCoord(line, along)

    ranges = [CoreRange(core(0, 0), core(long - 1, full - 1))] if full else []
    if rest:
        ranges.append(CoreRange(core(0, full), core(rest - 1, full)))
    return CoreRangeSet(ranges)


def create_sharded_memory_config(
    shape: Sequence[int],
    core_grid: CoreGrid | CoreRangeSet,
    strategy: ShardStrategy,
    orientation: ShardOrientation | None = None,
    use_height_and_width_as_shard_shape: bool = False,
) -> MemoryConfig:
    """A memory config in L1 whose shards divide `shape` over `core_grid`, or are of `shape`'s last two sizes."""
    op = "create_sharded_memory_config"
    if strategy not in _LAYOUT_OF:
        raise EmulatorError(f"{op}: strategy={strategy!r}; give a ShardStrategy")
    orientation = orientation or ShardOrientation.ROW_MAJOR
    if isinstance(core_grid, CoreGrid):
        grid = CoreRangeSet([CoreRange(CoreCoord(0, 0), CoreCoord(core_grid.x - 1, core_grid.y - 1))])
    elif isinstance(core_grid, CoreRangeSet) and use_height_and_width_as_shard_shape:
        grid = core_grid
    else:
        raise EmulatorError(
            f"{op}: core_grid={core_grid!r}; give a CoreGrid, or a CoreRangeSet with "
            "use_height_and_width_as_shard_shape"
        )
    *batch, height, width = (int(size) for size in shape)
    if use_height_and_width_as_shard_shape:
        rows, columns = height, width
    else:
        assert isinstance(core_grid, CoreGrid)
        x, y = (core_grid.x, core_grid.y) if orientation is ShardOrientation.ROW_MAJOR else (core_grid.y, core_grid.x)
        splits = {
            ShardStrategy.HEIGHT: (x * y, 1),
            ShardStrategy.WIDTH: (1, x * y),
            ShardStrategy.BLOCK: (y, x),
        }[strategy]
        rows, columns = math.prod(batch) * height, width
        if rows % splits[0] or columns % splits[1]:
            raise EmulatorError(f"{op}: {rows}×{columns} does not divide into {splits[0]}×{splits[1]} shards")
        rows, columns = rows // splits[0], columns // splits[1]
    return MemoryConfig(_LAYOUT_OF[strategy], BufferType.L1, ShardSpec(grid, (rows, columns), orientation))


def one_core_per_user(users: int, rows: int, columns: int, grid: tuple[int, int]) -> MemoryConfig:
    """Height shards in L1 of `rows` × `columns`, padded to tiles: how decode ops lay users over cores."""
    cores = num_cores_to_corerangeset(users, CoreCoord(*grid), row_wise=True)
    spec = ShardSpec(cores, (round_up(rows), round_up(columns)), ShardOrientation.ROW_MAJOR)
    return MemoryConfig(TensorMemoryLayout.HEIGHT_SHARDED, BufferType.L1, spec)


def one_core_per_head(heads: int, rows: int, columns: int, grid: tuple[int, int]) -> MemoryConfig:
    """Width shards in L1 of `rows` × `columns`: how joined heads lie over cores."""
    cores = num_cores_to_corerangeset(heads, CoreCoord(*grid), row_wise=True)
    spec = ShardSpec(cores, (round_up(rows), round_up(columns)), ShardOrientation.ROW_MAJOR)
    return MemoryConfig(TensorMemoryLayout.WIDTH_SHARDED, BufferType.L1, spec)


def check_shards(op: str, memory_config: MemoryConfig, shape: Sequence[int]) -> None:
    """That a sharded config says how, and that its shards together hold a tensor of `shape`."""
    if not memory_config.is_sharded():
        return
    spec = memory_config.shard_spec
    if spec is None:
        raise EmulatorError(f"{op}: memory_config is {memory_config.memory_layout.name} without a shard_spec")
    sizes = list(shape)
    rows = math.prod(sizes[:-2]) * (round_up(sizes[-2]) if len(sizes) > 1 else 1)
    columns = round_up(shape[-1]) if shape else 1
    held = spec.shape[0] * spec.shape[1] * spec.num_cores()
    if held < rows * columns:
        raise EmulatorError(
            f"{op}: {spec.num_cores()} shards of {spec.shape[0]}×{spec.shape[1]} cannot hold {rows}×{columns} elements"
        )


def with_shards(
    memory_config: MemoryConfig, shape: Sequence[int], grid: tuple[int, int], per_core: tuple[int, int] | None = None
) -> MemoryConfig:
    """A config that names no shards, with those that an op's output of `shape` gets.

    `per_core` are the output tiles (rows, columns) of a core where a matrix product's program says so; else the tensor
    is divided over as many of the grid's cores as take equal parts.
    """
    sizes = [1, 1, *shape][-max(2, len(shape)) :]
    tiles = (math.prod(sizes[:-2]) * round_up(sizes[-2]) // TILE, round_up(sizes[-1]) // TILE)
    x, y = grid
    most = {
        TensorMemoryLayout.HEIGHT_SHARDED: (x * y, 1),
        TensorMemoryLayout.WIDTH_SHARDED: (1, x * y),
        TensorMemoryLayout.BLOCK_SHARDED: (y, x),
    }[memory_config.memory_layout]
    if per_core is None:
        parts = tuple(next(n for n in range(most[d], 0, -1) if tiles[d] % n == 0) for d in (0, 1))
        each = (tiles[0] // parts[0], tiles[1] // parts[1])
    else:
        each = per_core
        parts = (-(-tiles[0] // each[0]), -(-tiles[1] // each[1]))
    if memory_config.memory_layout is TensorMemoryLayout.BLOCK_SHARDED:
        cores = CoreRangeSet([CoreRange(CoreCoord(0, 0), CoreCoord(parts[1] - 1, parts[0] - 1))])
    else:
        cores = num_cores_to_corerangeset(min(parts[0] * parts[1], x * y), CoreCoord(x, y), row_wise=True)
    spec = ShardSpec(cores, (each[0] * TILE, each[1] * TILE), ShardOrientation.ROW_MAJOR)
    return MemoryConfig(memory_config.memory_layout, memory_config.buffer_type, spec)
