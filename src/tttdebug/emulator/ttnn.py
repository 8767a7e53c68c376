# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401 (the imported names are what this module offers)
"""The emulated `ttnn`: the real package's names and signatures, computed in torch.

    from tttdebug.emulator import ttnn

    device = ttnn.open_device(device_id=0)
    x = ttnn.from_torch(torch.randn(32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)

A name that is not emulated raises UnknownNameError when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable as _Callable
from types import ModuleType as _ModuleType
from typing import Any as _Any
from typing import NoReturn as _NoReturn

from tttdebug.emulator.device import Device, close_device
from tttdebug.emulator.dtypes import TILE as TILE_SIZE
from tttdebug.emulator.dtypes import DataType, Layout, StorageType
from tttdebug.emulator.errors import unknown_name as _unknown_name
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
    create_mesh_composer,
    create_mesh_mapper,
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
from tttdebug.emulator.ops import attention as _attention
from tttdebug.emulator.ops import cache as _cache
from tttdebug.emulator.ops import heads as _heads
from tttdebug.emulator.ops import rotary as _rotary
from tttdebug.emulator.ops.cache import fill_cache, update_cache
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

div = divide
mul = multiply
sub = subtract


def synchronize_device(device: Device, cq_id: int | None = None, sub_device_ids: object = ()) -> None:
    """Waits for the device; an emulated op is done when it returns."""
    device.check_open("ttnn.synchronize_device")


def is_tensor_storage_on_device(tensor: Tensor) -> bool:
    """Whether the tensor is on a device."""
    return tensor.device() is not None


class _Part(_ModuleType):
    """A part of ttnn, such as ttnn.transformer, whose missing names say so."""

    def __init__(self, name: str, *functions: _Callable[..., _Any]) -> None:
        super().__init__(name)
        vars(self).update({function.__name__: function for function in functions})

    def __getattr__(self, name: str) -> _NoReturn:
        raise _unknown_name(self.__name__, name, vars(self))


transformer = _Part(
    "ttnn.transformer",
    _attention.scaled_dot_product_attention,
    _attention.scaled_dot_product_attention_decode,
    _attention.paged_scaled_dot_product_attention_decode,
)
experimental = _Part(
    "ttnn.experimental",
    _heads.nlp_create_qkv_heads,
    _heads.nlp_create_qkv_heads_decode,
    _heads.nlp_concat_heads,
    _heads.nlp_concat_heads_decode,
    _rotary.rotary_embedding,
    _rotary.rotary_embedding_llama,
    _cache.paged_update_cache,
    _cache.paged_fill_cache,
)
kv_cache = _Part("ttnn.kv_cache", _cache.fill_cache_for_user_, _cache.update_cache_for_token_)


def __getattr__(name: str) -> _NoReturn:
    raise _unknown_name("ttnn", name, globals())
