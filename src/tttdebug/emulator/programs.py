# SPDX-License-Identifier: Apache-2.0
"""Program configs, and how a matrix product is cut along K when the user does not say.

With bfloat16 accumulation the number of tiles per K block decides how often a partial sum is rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tttdebug.emulator.dtypes import TILE, round_up
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import Kernel, MathFidelity
from tttdebug.emulator.placement import CoreCoord, CoreGrid, CoreRangeSet, MemoryConfig, TensorMemoryLayout
from tttdebug.emulator.plans import Blocking


@dataclass(kw_only=True)
class MatmulMultiCoreReuseProgramConfig:
    """A product whose K blocks each core reads by itself."""

    compute_with_storage_grid_size: CoreCoord | tuple[int, int]
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    per_core_M: int
    per_core_N: int
    allowed_worker_cores: CoreRangeSet | None = None


@dataclass(kw_only=True)
class MatmulMultiCoreReuseMultiCastProgramConfig:
    """A product spread over both sides of the core grid (2D)."""

    compute_with_storage_grid_size: CoreCoord | tuple[int, int]
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    per_core_M: int
    per_core_N: int
    transpose_mcast: bool
    out_block_h: int | None = None
    out_block_w: int | None = None
    fused_activation: object | None = None
    fuse_batch: bool = True
    allowed_worker_cores: CoreRangeSet | None = None


@dataclass(kw_only=True)
class MatmulMultiCoreReuseMultiCast1DProgramConfig:
    """A product spread along one output dimension (1D)."""

    compute_with_storage_grid_size: CoreCoord | tuple[int, int]
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    per_core_M: int
    per_core_N: int
    fuse_batch: bool
    mcast_in0: bool
    out_block_h: int | None = None
    out_block_w: int | None = None
    fused_activation: object | None = None
    gather_in0: bool = False
    hop_cores: CoreRangeSet | None = None
    num_global_cb_receivers: int = 1
    untilize_out: bool = False
    allowed_worker_cores: CoreRangeSet | None = None
    stream_in1: bool = False


@dataclass(kw_only=True)
class MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig:
    """A decode product whose weights are sharded over DRAM banks."""

    in0_block_w: int
    per_core_M: int
    per_core_N: int
    fused_activation: object | None = None
    num_workers_per_dram_bank: int = 1


MatmulProgram = (
    MatmulMultiCoreReuseProgramConfig
    | MatmulMultiCoreReuseMultiCastProgramConfig
    | MatmulMultiCoreReuseMultiCast1DProgramConfig
    | MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig
)


@dataclass(kw_only=True)
class LayerNormDefaultProgramConfig:
    """How an interleaved norm is computed; the emulator models the default."""

    legacy_reduction: bool = False
    legacy_rsqrt: bool = False
    use_welford: bool = False


@dataclass(kw_only=True)
class LayerNormShardedMultiCoreProgramConfig:
    """How a sharded norm is spread over cores; the emulator sums each row as an interleaved norm does."""

    compute_with_storage_grid_size: CoreCoord | tuple[int, int]
    subblock_w: int
    block_h: int
    block_w: int
    inplace: bool
    legacy_reduction: bool = False
    legacy_rsqrt: bool = False
    use_welford: bool = False


@dataclass(kw_only=True)
class SDPAProgramConfig:
    """Chunk sizes and the exponential of scaled dot-product attention."""

    compute_with_storage_grid_size: CoreCoord | tuple[int, int]
    q_chunk_size: int
    k_chunk_size: int
    sub_core_grids: CoreRangeSet | None = None
    exp_approx_mode: bool | None = None
    max_cores_per_head_batch: int = 16
    max_k_splits: int = 1
    matmul_math_fidelity: MathFidelity | None = None
    segmented_accumulation: bool = False


@dataclass(frozen=True)
class Product:
    """The sizes of a matrix product M×K @ K×N, in elements; `batched` when the right operand has batches."""

    M: int
    K: int
    N: int
    batched: bool
    bias: bool


def choose_blocking(
    op: str,
    product: Product,
    kernel: Kernel,
    grid: tuple[int, int],
    program: MatmulProgram | None,
    core_grid: CoreGrid | None,
    in0_memory: MemoryConfig,
) -> Blocking:
    """The blocking that ttnn takes. Raises EmulatorError when a given in0_block_w does not divide K."""
    k_tiles = round_up(product.K) // TILE
    if program is not None:
        name, width = type(program).__name__, program.in0_block_w
        if width < 1 or k_tiles % width:
            raise EmulatorError(f"{op}: program_config.in0_block_w={width} does not divide K of {k_tiles} tiles")
    else:
        name, width = _automatic(product, k_tiles, grid, core_grid, in0_memory)
    blocks = k_tiles // width
    streams = isinstance(program, MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig)
    fewest = 1 if product.bias or streams or getattr(program, "gather_in0", False) else 2
    return Blocking(name, width, blocks, kernel.l1_acc and blocks > fewest)


def _automatic(
    product: Product, k_tiles: int, grid: tuple[int, int], core_grid: CoreGrid | None, in0_memory: MemoryConfig
) -> tuple[str, int]:
    if product.batched:
        return "batched", 1
    m_tiles, n_tiles = round_up(product.M) // TILE, round_up(product.N) // TILE
    narrow = max(m_tiles, n_tiles) // min(m_tiles, n_tiles) > 8
    if core_grid is not None:
        if narrow or m_tiles == 1 or n_tiles == 1:
            return "1d", _divisor_up_to(k_tiles, math.ceil(k_tiles / core_grid.num_cores))
        return "2d", _divisor_up_to(k_tiles, 4)
    spec = in0_memory.shard_spec
    if spec is not None and in0_memory.memory_layout is not TensorMemoryLayout.HEIGHT_SHARDED:
        return "sharded", math.gcd(max(1, spec.shape[1] // TILE), k_tiles)
    if narrow or m_tiles == 1 or n_tiles == 1:
        return "1d", 2 if k_tiles % 2 == 0 else 1
    return "2d", k_tiles // grid[0] if k_tiles % grid[0] == 0 else 1


def _divisor_up_to(number: int, limit: int) -> int:
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)
