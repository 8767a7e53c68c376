# SPDX-License-Identifier: Apache-2.0
"""Questions that programs ask of tensors, cores and chips."""

from __future__ import annotations

from enum import Enum

from tttdebug.emulator.device import Device
from tttdebug.emulator.dtypes import DataType, StorageType
from tttdebug.emulator.kernel import Arch
from tttdebug.emulator.mesh import Mesh
from tttdebug.emulator.opening import current_options
from tttdebug.emulator.placement import CoreCoord, CoreRangeSet, MemoryConfig
from tttdebug.emulator.tensor import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor lies in shards."""
    return tensor.is_sharded()


def is_tensor_storage_on_device(tensor: Tensor) -> bool:
    """Whether the tensor is on a device."""
    return tensor.device() is not None


def has_storage_type_of(tensor: Tensor, storage_type: StorageType) -> bool:
    return tensor.storage_type() is storage_type


def has_tile_padding(tensor: Tensor, *, dim: int | None = None) -> bool:
    """Whether the tensor is larger in memory than it says, at all or along `dim`."""
    if dim is None:
        return tensor.padded_shape != tensor.shape
    return tensor.padded_shape[dim] != tensor.shape[dim]


def get_memory_config(tensor: Tensor) -> MemoryConfig:
    return tensor.memory_config()


def element_size(dtype: DataType) -> int:
    """Bytes of an element; a block format has none of its own and counts 1."""
    return max(1, int(dtype.format.bytes_per_element))


def tile_size(dtype: DataType) -> int:
    """Bytes of a tile of 32×32."""
    return round(dtype.format.bytes_per_element * 1024)


def corerange_to_cores(
    core_range_set: CoreRangeSet, max_cores: int | None = None, row_wise: bool = False
) -> list[CoreCoord]:
    """The cores of each rectangle in turn, column by column or row by row."""
    cores = []
    for area in core_range_set.ranges():
        xs, ys = range(area.start.x, area.end.x + 1), range(area.start.y, area.end.y + 1)
        cores += [CoreCoord(x, y) for y in ys for x in xs] if row_wise else [CoreCoord(x, y) for x in xs for y in ys]
    return cores if max_cores is None else cores[:max_cores]


def get_arch_name() -> str:
    """The architecture of the devices that are opened."""
    return Arch(current_options().architecture).value


def is_wormhole_b0(device: Device | None = None) -> bool:
    return _arch(device) is Arch.WORMHOLE_B0


def is_blackhole(device: Device | None = None) -> bool:
    return _arch(device) is Arch.BLACKHOLE


def _arch(device: Device | None) -> Arch:
    return Arch(current_options().architecture) if device is None else device.arch()


class ClusterType(Enum):
    """Which machine the chips are in."""

    INVALID = 0
    N150 = 1
    N300 = 2
    T3K = 3
    GALAXY = 4
    TG = 5
    P100 = 6
    P150 = 7
    P150_X2 = 8
    P150_X4 = 9
    P150_X8 = 10
    SIMULATOR_WORMHOLE_B0 = 11
    SIMULATOR_BLACKHOLE = 12
    N300_2x2 = 13
    P300 = 14
    SIMULATOR_QUASAR = 15
    BLACKHOLE_GALAXY = 16
    P300_X2 = 17
    CUSTOM = 18


_MACHINES = {
    Arch.WORMHOLE_B0: {1: ClusterType.N150, 2: ClusterType.N300, 8: ClusterType.T3K, 32: ClusterType.GALAXY},
    Arch.BLACKHOLE: {1: ClusterType.P150, 2: ClusterType.P150_X2, 4: ClusterType.P150_X4, 8: ClusterType.P150_X8},
}


def get_cluster_type() -> ClusterType:
    """The machine that has as many chips as the largest open mesh."""
    count = max((mesh.get_num_devices() for mesh in Mesh.opened()), default=1)
    return _MACHINES[Arch(current_options().architecture)].get(count, ClusterType.CUSTOM)
