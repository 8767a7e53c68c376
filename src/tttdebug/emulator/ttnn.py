# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401 (the imported names are what this module offers)
"""The emulated `ttnn`: the real package's names and signatures, computed in torch.

    from tttdebug.emulator import ttnn

    device = ttnn.open_device(device_id=0)
    x = ttnn.from_torch(torch.randn(32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)

A name of the real package that is not emulated can be taken and raises NotEmulatedError when it is used; a name that
the real package does not have raises UnknownNameError when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable as _Iterable
from types import ModuleType as _ModuleType
from typing import Any as _Any

from tttdebug.emulator.collectives import Topology
from tttdebug.emulator.device import Device, close_device
from tttdebug.emulator.dtypes import TILE as TILE_SIZE
from tttdebug.emulator.dtypes import DataType, Layout, StorageType
from tttdebug.emulator.inquiry import ClusterType as _ClusterType
from tttdebug.emulator.inquiry import (
    corerange_to_cores,
    element_size,
    get_arch_name,
    get_memory_config,
    has_storage_type_of,
    has_tile_padding,
    is_sharded,
    is_tensor_storage_on_device,
    tile_size,
)
from tttdebug.emulator.inquiry import get_cluster_type as _get_cluster_type
from tttdebug.emulator.inquiry import is_blackhole as _is_blackhole
from tttdebug.emulator.inquiry import is_wormhole_b0 as _is_wormhole_b0
from tttdebug.emulator.kernel import (
    Arch,
    MathFidelity,
    ThrottleLevel,
    WormholeComputeKernelConfig,
    init_device_compute_kernel_config,
)
from tttdebug.emulator.mesh import (
    ConcatMesh2dToTensor,
    ConcatMeshToTensor,
    MeshComposerConfig,
    MeshCoordinate,
    MeshMapperConfig,
    MeshShape,
    PlacementReplicate,
    PlacementShard,
    ReplicateTensorToMesh,
    ShardTensor2dMesh,
    ShardTensorToMesh,
    concat_mesh_to_tensor_composer,
    create_mesh_composer,
    create_mesh_mapper,
    replicate_tensor_to_mesh_mapper,
    shard_tensor_to_mesh_mapper,
)
from tttdebug.emulator.mesh import MeshComposer as MeshToTensor
from tttdebug.emulator.mesh import MeshMapper as TensorToMesh
from tttdebug.emulator.mesh_tensor import TensorTopology
from tttdebug.emulator.opening import (
    GetDefaultDevice,
    SetDefaultDevice,
    close_mesh_device,
    create_mesh_device,
    manage_device,
    open_device,
    open_mesh_device,
)
from tttdebug.emulator.operation import OPS as _OPS
from tttdebug.emulator.ops import collective_async as _collective_async
from tttdebug.emulator.ops import everything as _everything
from tttdebug.emulator.ops.cache import fill_cache, update_cache
from tttdebug.emulator.ops.collective_async import (
    create_global_semaphore,
    reset_global_semaphore_value,
)
from tttdebug.emulator.ops.creation import (
    arange,
    as_tensor,
    clone,
    deallocate,
    from_device,
    from_torch,
    full,
    ones,
    reallocate,
    to_device,
    to_dtype,
    to_layout,
    to_memory_config,
    to_torch,
    typecast,
    zeros,
)
from tttdebug.emulator.ops.data_movement import (
    concat,
    interleaved_to_sharded,
    pad,
    permute,
    repeat,
    reshape,
    sharded_to_interleaved,
    squeeze,
    transpose,
    unsqueeze,
    unsqueeze_to_4D,
)
from tttdebug.emulator.ops.data_movement import slice_ as slice
from tttdebug.emulator.ops.distribution import (
    FabricConfig,
    FabricManagerMode,
    FabricReliabilityMode,
    FabricTensixConfig,
    FabricUDMMode,
    aggregate_tensor,
    combine_device_tensors,
    copy_device_to_host_tensor,
    copy_host_to_device_tensor,
    distribute,
    distribute_tensor,
    from_host_shards,
    get_device_ids,
    get_device_tensors,
    get_fabric_config,
    get_num_devices,
    set_fabric_config,
)
from tttdebug.emulator.ops.eltwise import (
    GeluVariant,
    UnaryOpType,
    UnaryWithParam,
    add,
    divide,
    erf,
    exp,
    exp2,
    expm1,
    gelu,
    log,
    log1p,
    multiply,
    neg,
    reciprocal,
    relu,
    relu6,
    rsqrt,
    rsub,
    sigmoid,
    silu,
    sqrt,
    square,
    subtract,
    tanh,
)
from tttdebug.emulator.ops.eltwise import abs_ as abs
from tttdebug.emulator.ops.embedding import embedding
from tttdebug.emulator.ops.matmul import linear, matmul
from tttdebug.emulator.ops.matmul_variants import MinimalMatmulConfig
from tttdebug.emulator.ops.normalization import layer_norm, rms_norm, softmax
from tttdebug.emulator.ops.reduction import argmax, mean
from tttdebug.emulator.ops.reduction import max_ as max
from tttdebug.emulator.ops.reduction import min_ as min
from tttdebug.emulator.ops.reduction import sum_ as sum
from tttdebug.emulator.ops.selection import scatter, topk
from tttdebug.emulator.placement import (
    DRAM_MEMORY_CONFIG,
    L1_BLOCK_SHARDED_MEMORY_CONFIG,
    L1_HEIGHT_SHARDED_MEMORY_CONFIG,
    L1_MEMORY_CONFIG,
    L1_WIDTH_SHARDED_MEMORY_CONFIG,
    BufferType,
    CoreCoord,
    CoreGrid,
    CoreRange,
    CoreRangeSet,
    MemoryConfig,
    ShardOrientation,
    ShardSpec,
    ShardStrategy,
    TensorMemoryLayout,
    create_sharded_memory_config,
    num_cores_to_corerangeset,
)
from tttdebug.emulator.programs import (
    LayerNormDefaultProgramConfig,
    LayerNormShardedMultiCoreProgramConfig,
    MatmulMultiCoreReuseMultiCast1DProgramConfig,
    MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig,
    MatmulMultiCoreReuseMultiCastProgramConfig,
    MatmulMultiCoreReuseProgramConfig,
    SDPAProgramConfig,
)
from tttdebug.emulator.real_names import real_modules as _real_modules
from tttdebug.emulator.real_names import stand_in as _stand_in
from tttdebug.emulator.settings import (
    DispatchCoreAxis,
    DispatchCoreConfig,
    DispatchCoreType,
    EmbeddingsType,
    ReduceType,
    SigmoidMode,
    SoftmaxDefaultProgramConfig,
    SoftmaxShardedMultiCoreProgramConfig,
    SubDevice,
    SubDeviceId,
    Tile,
)
from tttdebug.emulator.tensor import Shape, Tensor

bfloat16 = DataType.BFLOAT16
float32 = DataType.FLOAT32
bfloat8_b = DataType.BFLOAT8_B
bfloat4_b = DataType.BFLOAT4_B
uint32 = DataType.UINT32
int32 = DataType.INT32
uint16 = DataType.UINT16
uint8 = DataType.UINT8

TILE_LAYOUT = Layout.TILE
ROW_MAJOR_LAYOUT = Layout.ROW_MAJOR

MeshDevice = Device
DeviceComputeKernelConfig = WormholeComputeKernelConfig
CppMeshToTensor = MeshToTensor
CppTensorToMesh = TensorToMesh


def synchronize_device(device: Device, cq_id: int | None = None, sub_device_ids: object = ()) -> None:
    """Waits for the device; an emulated op is done when it returns."""
    device.check_open("ttnn.synchronize_device")


def _emulated() -> _Iterable[str]:
    return [name for name in globals() if not name.startswith("_")]


class _Part(_ModuleType):
    """A part of ttnn, such as ttnn.transformer; what also stands in ttnn itself is the same object there."""

    def __init__(self, part: str, names: dict[str, _Any]) -> None:
        super().__init__(f"ttnn.{part}", f"The part `{part}` of the emulated ttnn.")
        self._part = part
        vars(self).update(names)

    def __getattr__(self, name: str) -> _Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._part not in _OPS_ONLY and name in globals():
            return globals()[name]
        return _stand_in(f"{self._part}.{name}", self._emulated)

    def _emulated(self) -> _Iterable[str]:
        return [name for name in vars(self) if not name.startswith("_")]


_OPS_ONLY = ("transformer", "experimental", "kv_cache")
_BESIDE_OPS = {
    "experimental.all_gather_async": _collective_async.all_gather_async,
    "experimental.all_gather_matmul_async": _collective_async.all_gather_matmul_async,
    "experimental.all_reduce_async": _collective_async.all_reduce_async,
    "experimental.reduce_scatter_minimal_async": _collective_async.reduce_scatter_minimal_async,
    "device.is_wormhole_b0": _is_wormhole_b0,
    "device.is_blackhole": _is_blackhole,
    "cluster.ClusterType": _ClusterType,
    "cluster.get_cluster_type": _get_cluster_type,
}


def _names_of(part: str) -> dict[str, _Any]:
    prefix = f"{part}."
    ops = {name.removeprefix("ttnn."): op for name, op in _OPS.items()} | _BESIDE_OPS
    return {name.removeprefix(prefix): op for name, op in ops.items() if name.startswith(prefix)}


for _name, _op in _OPS.items():
    if _name.startswith("ttnn.") and _name.count(".") == 1:
        globals().setdefault(_name.removeprefix("ttnn."), _op)
for _name in _real_modules():
    globals()[_name] = _Part(_name, _names_of(_name))


def __getattr__(name: str) -> _Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _stand_in(name, _emulated)
