# SPDX-License-Identifier: Apache-2.0
"""ttnn's own choices: the kernel an op takes without a config, the unit it runs on, how a product cuts K."""

import pytest
import torch

from tttdebug.emulator import open_device, ttnn
from tttdebug.emulator.formats import BFLOAT8_B, BFLOAT16, FLOAT32
from tttdebug.emulator.kernel import Kernel, MathFidelity

LOFI, HIFI2, HIFI3, HIFI4 = (MathFidelity[name] for name in ("LoFi", "HiFi2", "HiFi3", "HiFi4"))


def zeros(device, shape, dtype=ttnn.bfloat16):
    return ttnn.zeros(shape, dtype, ttnn.TILE_LAYOUT, device)


def plan_of(device, shape, a=ttnn.bfloat16, b=ttnn.bfloat16, **options):
    M, K, N = shape
    return ttnn.matmul(zeros(device, (M, K), a), zeros(device, (K, N), b), **options).plan


@pytest.mark.parametrize(
    ("shape", "width"),
    [
        ((64, 128, 96), 1),  # 4 tiles of K do not divide over 8 columns of cores
        ((32, 576, 192), 2),  # one row of tiles: two at a time
        ((32, 544, 192), 1),  # 17 tiles are odd
        ((64, 1536, 64), 6),  # 48 tiles over 8 columns
        ((64, 576, 544), 1),  # 17 output tiles against 2: not yet narrow
        ((64, 576, 576), 2),  # 18 against 2: narrow
        ((128, 576, 1536), 2),
    ],
)
def test_blocks_of_k_are_those_that_ttnn_takes(device, shape, width):
    blocking = plan_of(device, shape).blocking
    assert blocking.in0_block_w == width
    assert blocking.blocks * width == -(-shape[1] // 32)


def test_a_core_grid_changes_fidelity_and_blocks(device):
    plan = plan_of(device, (64, 576, 128), core_grid=ttnn.CoreGrid(x=8, y=8))
    assert (plan.kernel.fidelity, plan.blocking.in0_block_w) == (LOFI, 3)
    batched = ttnn.matmul(zeros(device, (3, 64, 64)), zeros(device, (3, 64, 64))).plan
    assert batched.blocking.in0_block_w == 1


def test_a_program_config_decides_the_blocks(device):
    program = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
        in0_block_w=9, per_core_M=1, per_core_N=1, fused_activation=ttnn.UnaryWithParam(ttnn.UnaryOpType.SILU)
    )
    plan = plan_of(device, (32, 576, 64), program_config=program)
    assert (plan.blocking.in0_block_w, plan.blocking.blocks, plan.activation.name) == (9, 2, "silu")
    assert plan.kernel.fidelity is LOFI


def test_the_packer_accumulates_from_three_blocks_on_or_two_with_a_bias(device):
    assert not plan_of(device, (32, 128, 64)).blocking.l1_acc
    assert plan_of(device, (32, 192, 64)).blocking.l1_acc
    a, b, bias = zeros(device, (32, 128)), zeros(device, (128, 64)), zeros(device, (1, 64))
    assert ttnn.linear(a, b, bias=bias).plan.blocking.l1_acc


@pytest.mark.parametrize(
    ("a", "b", "output", "kernel"),
    [
        (ttnn.bfloat16, ttnn.bfloat16, None, Kernel(HIFI2, l1_acc=True)),
        (ttnn.bfloat16, ttnn.bfloat8_b, ttnn.float32, Kernel(HIFI2, fp32_dest=True)),
        (ttnn.bfloat8_b, ttnn.bfloat4_b, None, Kernel(LOFI, l1_acc=True)),
        (ttnn.float32, ttnn.float32, None, Kernel(HIFI3, fp32_dest=True)),
    ],
)
def test_the_default_kernel_of_a_product_follows_its_data_types(device, a, b, output, kernel):
    assert plan_of(device, (32, 64, 32), a, b, dtype=output).kernel == kernel


def test_partial_sums_rest_in_the_format_the_kernel_writes(device):
    config = ttnn.WormholeComputeKernelConfig(math_fidelity=HIFI2)
    assert plan_of(device, (32, 192, 64), compute_kernel_config=config, dtype=ttnn.bfloat8_b).partials is BFLOAT8_B
    assert plan_of(device, (32, 192, 64)).partials is BFLOAT16
    config.fp32_dest_acc_en = True
    assert plan_of(device, (32, 192, 64), compute_kernel_config=config).partials is FLOAT32


@pytest.mark.parametrize(
    ("op", "kernel"),
    [
        (ttnn.rms_norm, Kernel(HIFI4, approx=True)),
        (ttnn.layer_norm, Kernel(HIFI4, fp32_dest=True)),
        (ttnn.softmax, Kernel(HIFI3, approx=True, fp32_dest=True)),
        (ttnn.sum, Kernel(HIFI3, fp32_dest=True)),
    ],
)
def test_defaults_of_other_ops(device, op, kernel):
    assert op(zeros(device, (32, 64))).plan.kernel == kernel


def test_blackhole_runs_at_full_fidelity_where_wormhole_avoids_it():
    blackhole = open_device(architecture="blackhole")
    assert ttnn.mean(zeros(blackhole, (32, 64)), -1).plan.kernel.fidelity is HIFI4
    assert plan_of(blackhole, (32, 64, 32), ttnn.float32, ttnn.float32).kernel.fidelity is HIFI4


@pytest.mark.parametrize(
    ("op", "a", "b", "unit"),
    [
        (ttnn.add, ttnn.bfloat16, ttnn.bfloat8_b, "fpu"),
        (ttnn.add, ttnn.float32, ttnn.float32, "sfpu"),
        (ttnn.add, ttnn.bfloat16, ttnn.float32, "fpu"),
        (ttnn.multiply, ttnn.bfloat16, ttnn.bfloat16, "sfpu"),
        (ttnn.multiply, ttnn.bfloat16, ttnn.bfloat8_b, "fpu"),
        (ttnn.divide, ttnn.bfloat16, ttnn.bfloat16, "sfpu"),
    ],
)
def test_the_unit_of_a_binary_op(device, op, a, b, unit):
    assert op(zeros(device, (32, 32), a), zeros(device, (32, 32), b)).plan.unit == unit


def test_attention_takes_the_streaming_kernel_unless_dest_is_fp32(device):
    q = zeros(device, (1, 2, 64, 64))
    plan = ttnn.transformer.scaled_dot_product_attention(q, q, q).plan
    assert (plan.streaming, plan.approximate_exponential, plan.k_chunk) == (True, True, 32)
    program = ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(8, 8), q_chunk_size=64, k_chunk_size=64, exp_approx_mode=False
    )
    config = ttnn.WormholeComputeKernelConfig(math_fidelity=HIFI4, fp32_dest_acc_en=True)
    plan = ttnn.transformer.scaled_dot_product_attention(
        q, q, q, program_config=program, compute_kernel_config=config
    ).plan
    assert (plan.streaming, plan.approximate_exponential, plan.k_chunk) == (False, False, 64)


@pytest.mark.parametrize("fidelity", [LOFI, HIFI2, HIFI3, HIFI4])
@pytest.mark.parametrize("weights", [ttnn.bfloat16, ttnn.bfloat8_b, ttnn.bfloat4_b, ttnn.float32])
def test_a_product_drops_what_its_fidelity_drops(device, fidelity, weights):
    """Against the cuts written out in float64: high and low parts of both operands, phase by phase."""
    x, w = torch.randn(32, 64).bfloat16(), torch.randn(64, 32)
    a = ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    b = ttnn.from_torch(w, dtype=weights, layout=ttnn.TILE_LAYOUT, device=device)
    config = ttnn.WormholeComputeKernelConfig(math_fidelity=fidelity, fp32_dest_acc_en=True)
    computed = ttnn.to_torch(ttnn.matmul(a, b, dtype=ttnn.float32, compute_kernel_config=config)).double()

    def first(values, bits):
        mantissa, exponent = torch.frexp(values.double())
        return torch.ldexp(torch.trunc(mantissa * 2 ** (bits + 1)), exponent - bits - 1)

    held = first(ttnn.to_torch(b), 9)
    x_first, w_first = first(x, 6), first(held, 4)
    x_last, w_next = x.double() - x_first, held - w_first
    phases = [(x_first, w_first), (x_first, w_next), (x_last, w_first), (x_last, w_next)][: fidelity.value]
    assert torch.allclose(computed, sum(p @ q for p, q in phases), rtol=1e-5, atol=1e-5)
