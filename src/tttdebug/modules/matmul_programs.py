# SPDX-License-Identifier: Apache-2.0
"""How a product with a weight is spread over the cores: which program, which blocks, where its output lies, and why.

M, K, N are the product's rows, inner size and columns in tiles of 32; ttnn computes M×K @ K×N.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from tttdebug.modules.positions import whole_tiles
from tttdebug.specs.cost import DTYPE_BYTES
from tttdebug.specs.validation import TILE

if TYPE_CHECKING:
    from tttdebug.modules.hardware import ComputeKernel

Policy = Literal["by_size", "automatic"]
Memory = Literal["DRAM, interleaved", "L1, width sharded", "L1, block sharded"]

SMALL = 2048
"""A weight with a side below this is left to ttnn: whatever the blocks, it is read in few of them."""

NARROW = 8
"""From this ratio of columns to rows on, a grid's two sides cannot both be filled and the columns go over all cores."""

L1_FOR_BUFFERS = 1_300_000
"""Bytes of a core's L1 (1,499,136 on Wormhole) that a product's buffers may take; the rest is the runtime's."""


@dataclass(frozen=True)
class Product:
    """The sizes of a product with a weight, in elements, and its number formats by name."""

    rows: int
    inner: int
    columns: int
    weight: str = "bfloat16"
    activation: str = "bfloat16"
    has_bias: bool = False

    @property
    def in_tiles(self) -> tuple[int, int, int]:
        """M, K, N."""
        m, k, n = (whole_tiles(size) // TILE for size in (self.rows, self.inner, self.columns))
        return m, k, n


@dataclass(frozen=True)
class MatmulProgram:
    """One of ttnn's multicast programs: `1d` cuts the columns over all cores, `2d` rows and columns over the grid.

    A core computes per_core_M × per_core_N tiles, an out block of them at a time, in0_block_w tiles of K at a time, an
    out subblock of them in its registers.
    """

    kind: Literal["1d", "2d"]
    grid: tuple[int, int]
    in0_block_w: int
    per_core_M: int
    per_core_N: int
    out_block_w: int
    out_subblock_h: int
    out_subblock_w: int

    def to_ttnn(self, ttnn: Any) -> Any:
        """The same as a program config of the given ttnn namespace."""
        sizes = {
            "compute_with_storage_grid_size": self.grid,
            "in0_block_w": self.in0_block_w,
            "out_subblock_h": self.out_subblock_h,
            "out_subblock_w": self.out_subblock_w,
            "out_block_h": self.per_core_M,
            "out_block_w": self.out_block_w,
            "per_core_M": self.per_core_M,
            "per_core_N": self.per_core_N,
            "fused_activation": None,
            "fuse_batch": True,
        }
        if self.kind == "1d":
            return ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(**sizes, mcast_in0=True)
        return ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(**sizes, transpose_mcast=False)

    def __str__(self) -> str:
        return f"{self.kind} multicast, {self.per_core_M}x{self.per_core_N} tiles a core, K by {self.in0_block_w}"


@dataclass(frozen=True)
class MatmulChoice:
    """How a product is computed: its program, None for ttnn's own, where its output lies, and why."""

    program: MatmulProgram | None
    memory: Memory
    why: str

    def __str__(self) -> str:
        return "automatic" if self.program is None else str(self.program)


@lru_cache(maxsize=4096)
def choose_matmul(
    product: Product, kernel: ComputeKernel, grid: tuple[int, int], policy: Policy = "by_size", in_l1: bool = False
) -> MatmulChoice:
    """The program for a product on such a grid; with `in_l1` its output stays in the cores' L1, where it fits."""
    m, k, n = product.in_tiles
    if not in_l1:
        if policy == "automatic":
            return MatmulChoice(None, "DRAM, interleaved", "matmul_programs is 'automatic': ttnn fits its own blocks")
        if min(product.inner, product.columns) < SMALL:
            size = f"a weight of {product.inner}x{product.columns} has a side below {SMALL}"
            return MatmulChoice(None, "DRAM, interleaved", f"{size}: ttnn's own blocks do")
    if m > NARROW * n:
        return MatmulChoice(
            None, "DRAM, interleaved", f"{product.rows} rows, {product.columns} columns: ttnn cuts rows"
        )
    kind: Literal["1d", "2d"] = "1d" if m == 1 or n > NARROW * m else "2d"
    for program in _programs(kind, (m, k, n), kernel, grid, whole_block=in_l1):
        if _buffer_bytes(program, product, kernel) + in_l1 * _output_bytes(program, product) <= L1_FOR_BUFFERS:
            memory: Memory = "DRAM, interleaved"
            if in_l1:
                memory = "L1, width sharded" if kind == "1d" else "L1, block sharded"
            return MatmulChoice(program, memory, f"{_why_kind(kind, m, n, grid)}; {_why_block(program, kernel)}")
    return MatmulChoice(
        None, "DRAM, interleaved", f"no block of {m}x{n} tiles over {grid[0]}x{grid[1]} cores fits in L1"
    )


def _programs(
    kind: Literal["1d", "2d"],
    sizes: tuple[int, int, int],
    kernel: ComputeKernel,
    grid: tuple[int, int],
    whole_block: bool,
) -> Iterator[MatmulProgram]:
    """Legal programs, the largest out blocks first, and of these the most tiles of K at a time."""
    m, k, n = sizes
    per_core_M = m if kind == "1d" else -(-m // grid[1])
    per_core_N = -(-n // (grid[0] * grid[1] if kind == "1d" else grid[0]))
    registers = 4 if kernel.fp32_dest_acc_en else 8  # tiles of half the destination register, which ttnn lets one use
    for out_block_w in [per_core_N] if whole_block else _divisors(per_core_N, per_core_N):
        subblock_w = _divisors(out_block_w, registers)[0]
        subblock_h = _divisors(per_core_M, registers // subblock_w)[0] if subblock_w == per_core_N else 1
        for in0_block_w in _divisors(k, _most_of_k(kernel)):
            yield MatmulProgram(kind, grid, in0_block_w, per_core_M, per_core_N, out_block_w, subblock_h, subblock_w)


def _most_of_k(kernel: ComputeKernel) -> int:
    """How many tiles of K may be summed before the packer takes over.

    A bfloat16 register rounds at every step, the packer's sums in L1 round once a block: few tiles are the more exact.
    """
    return 2 if kernel.packer_l1_acc and not kernel.fp32_dest_acc_en else 8


def _divisors(number: int, limit: int) -> list[int]:
    """The divisors of a number up to a limit, the largest first."""
    return [divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0]


def _buffer_bytes(program: MatmulProgram, product: Product, kernel: ComputeKernel) -> float:
    """What a core's circular buffers take: both inputs twice, an out block, partial sums where they differ from it."""
    out_block = program.per_core_M * program.out_block_w
    tiles_in = program.per_core_M * program.in0_block_w, program.out_block_w * program.in0_block_w
    partials = "float32" if kernel.fp32_dest_acc_en else "bfloat16"
    inputs = 2 * (tiles_in[0] * _tile_bytes(product.activation) + tiles_in[1] * _tile_bytes(product.weight))
    sums = _tile_bytes(partials) if partials != product.activation else 0.0
    bias = program.out_block_w * _tile_bytes("bfloat16") if product.has_bias else 0.0
    return inputs + out_block * (_tile_bytes(product.activation) + sums) + bias


def _output_bytes(program: MatmulProgram, product: Product) -> float:
    return program.per_core_M * program.per_core_N * _tile_bytes(product.activation)


def _tile_bytes(dtype: str) -> float:
    return TILE * TILE * DTYPE_BYTES[dtype]


def _why_kind(kind: str, m: int, n: int, grid: tuple[int, int]) -> str:
    if kind == "1d":
        return f"{m} rows of tiles to {n} columns: the columns go over all {grid[0] * grid[1]} cores"
    return f"{m} rows of tiles and {n} columns fill both sides of {grid[0]}x{grid[1]} cores"


def _why_block(program: MatmulProgram, kernel: ComputeKernel) -> str:
    if _most_of_k(kernel) == 2:
        return "bfloat16 sums, which round least when the packer adds short blocks"
    return f"{program.in0_block_w} tiles of K fit beside the output"
