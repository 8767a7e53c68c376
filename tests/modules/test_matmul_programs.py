# SPDX-License-Identifier: Apache-2.0
"""Programs of products keep to what ttnn's own checks demand, and are chosen where they make results more exact."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.emulator import ttnn
from tttdebug.emulator.engines.fast_units import FastUnits
from tttdebug.emulator.formats import BFLOAT16
from tttdebug.emulator.kernel import Arch, Kernel, MathFidelity
from tttdebug.emulator.plans import Blocking, MatmulPlan
from tttdebug.emulator.programs import Product as EmulatedProduct
from tttdebug.emulator.programs import choose_blocking
from tttdebug.modules.decoder_config import KERNELS
from tttdebug.modules.hardware import HIFI2_FP16, HIFI4
from tttdebug.modules.matmul_programs import Product, choose_matmul

SIZES = st.integers(1, 400).map(lambda tiles: 32 * tiles)
PRODUCTS = st.builds(
    Product,
    rows=st.integers(1, 4096),
    inner=SIZES,
    columns=SIZES,
    weight=st.sampled_from(["bfloat16", "bfloat8_b", "bfloat4_b"]),
    has_bias=st.booleans(),
)
L1 = 1_499_136  # bytes of a Wormhole core, of which the runtime takes about 100 KB
ACCUMULATING_BFLOAT16 = Kernel(MathFidelity.HiFi2, fp32_dest=False, l1_acc=True)
TILE_BYTES = {"bfloat16": 2048, "bfloat8_b": 1088, "bfloat4_b": 576}


@given(PRODUCTS, st.sampled_from(list(KERNELS.values())), st.sampled_from([(8, 8), (8, 9), (13, 10)]), st.booleans())
def test_every_program_is_one_that_ttnn_takes(product, kernel, grid, in_l1):
    choice = choose_matmul(product, kernel, grid, in_l1=in_l1)
    program = choice.program
    assert choice.why
    if program is None:
        assert choice.memory == "DRAM, interleaved"
        return
    m, k, n = (math.ceil(size / 32) for size in (product.rows, product.inner, product.columns))
    rows_of_blocks, columns_of_blocks = math.ceil(m / program.per_core_M), math.ceil(n / program.per_core_N)
    if program.kind == "1d":
        assert rows_of_blocks == 1
        assert columns_of_blocks <= grid[0] * grid[1]
    else:
        assert columns_of_blocks <= grid[0]
        assert rows_of_blocks <= grid[1]
    assert k % program.in0_block_w == 0
    assert program.per_core_N % program.out_block_w == 0
    assert program.out_block_w % program.out_subblock_w == 0
    assert program.per_core_M % program.out_subblock_h == 0
    assert program.out_subblock_h * program.out_subblock_w <= (4 if kernel.fp32_dest_acc_en else 8)
    assert program.out_subblock_h == 1 or program.out_subblock_w == program.per_core_N
    assert not in_l1 or program.out_block_w == program.per_core_N
    inputs = 2 * program.in0_block_w * (program.per_core_M * 2048 + program.out_block_w * TILE_BYTES[product.weight])
    out = program.per_core_M * program.out_block_w * (2048 + (4096 if kernel.fp32_dest_acc_en else 0))
    assert inputs + out < L1 - 110_000


def error_with(tiles_at_a_time):
    """rel_l2 of a product whose register rounds to bfloat16 at every step, and whose blocks the packer adds."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(32, 4096, generator=generator), torch.randn(4096, 32, generator=generator)
    x, w = x.bfloat16(), w.bfloat16()
    blocking = Blocking("linear", tiles_at_a_time, 4096 // 32 // tiles_at_a_time, l1_acc=True)
    plan = MatmulPlan(ACCUMULATING_BFLOAT16, blocking, BFLOAT16, BFLOAT16, BFLOAT16)
    total = FastUnits(Arch.WORMHOLE_B0).matrix_product(x, w, plan)
    exact = x.double() @ w.double()
    return ((total - exact).norm() / exact.norm()).item()


def test_sums_in_bfloat16_are_cut_short_because_that_is_more_exact():
    product, grid = Product(512, 4096, 4096), (8, 8)
    chosen = choose_matmul(product, HIFI2_FP16, grid).program.in0_block_w
    automatic = 4096 // 32 // grid[0]  # what ttnn takes for such a product, as the emulator has it
    emulated = EmulatedProduct(512, 4096, 4096, batched=False, bias=False)
    blocking = choose_blocking("linear", emulated, ACCUMULATING_BFLOAT16, grid, None, None, ttnn.DRAM_MEMORY_CONFIG)
    assert blocking.in0_block_w == automatic
    assert error_with(chosen) < 0.9 * error_with(automatic)
    assert choose_matmul(product, HIFI4, grid).program.in0_block_w == 8, "fp32 sums need no care"
