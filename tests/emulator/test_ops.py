# SPDX-License-Identifier: Apache-2.0
"""What each op computes, on both engines, against plain torch; and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from device_tensors import FULL_FIDELITY, near, randn, upload

from tttdebug.emulator import EmulatorError, ttnn


@pytest.mark.parametrize("activation", [None, "silu", "gelu", "relu", ttnn.UnaryWithParam(ttnn.UnaryOpType.TANH)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear(any_device, activation, with_bias):
    x, w, bias = randn(1, 1, 40, 96), randn(96, 64) / 10, randn(1, 64)
    computed = ttnn.linear(
        upload(any_device, x),
        upload(any_device, w),
        bias=upload(any_device, bias) if with_bias else None,
        activation=activation,
    )
    exact = x @ w + (bias if with_bias else 0)
    name = activation.op_type.value if isinstance(activation, ttnn.UnaryWithParam) else activation
    near(any_device, computed, getattr(F, name)(exact) if name else exact)


def test_a_fused_function_takes_only_parameters_that_are_emulated(device):
    x = upload(device, randn(32, 64))
    computed = ttnn.linear(x, x, transpose_b=True, activation=ttnn.UnaryWithParam(ttnn.UnaryOpType.GELU, True))
    apart = ttnn.gelu(ttnn.linear(x, x, transpose_b=True), fast_and_approximate_mode=True)
    assert torch.equal(ttnn.to_torch(computed), ttnn.to_torch(apart))
    with pytest.raises(EmulatorError, match=r"UnaryWithParam\(UnaryOpType.RELU, 2\) is not emulated"):
        ttnn.linear(x, x, transpose_b=True, activation=ttnn.UnaryWithParam(ttnn.UnaryOpType.RELU, 2))
    with pytest.raises(EmulatorError, match="activation 'mash' is not emulated; known are identity, exp"):
        ttnn.linear(x, x, transpose_b=True, activation="mash")


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3, 32, 64), (2, 3, 64, 32)), ((2, 3, 32, 64), (64, 32)), ((33, 64), (64, 50))]
)
def test_matmul_broadcasts_and_transposes(any_device, a, b):
    x, w = randn(*a), randn(*b)
    near(any_device, ttnn.matmul(upload(any_device, x), upload(any_device, w)), x @ w)
    transposed = ttnn.matmul(
        upload(any_device, x.mT), upload(any_device, w.mT), transpose_a=True, transpose_b=True, dtype=ttnn.float32
    )
    near(any_device, transposed, x @ w)
    assert transposed.dtype is ttnn.float32


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((32, 64), (32, 64), "do not multiply"),
        ((2, 32, 64), (3, 64, 32), "batches of"),
        ((64,), (64, 32), "do not multiply"),
    ],
)
def test_shapes_that_do_not_multiply_are_refused(device, a, b, message):
    with pytest.raises(EmulatorError, match=rf"ttnn\.matmul: .*{message}"):
        ttnn.matmul(upload(device, randn(*a)), upload(device, randn(*b)))


def test_matmul_refuses_rows_integers_a_bias_and_a_block_width_that_does_not_fit(device):
    x = upload(device, randn(32, 96))
    with pytest.raises(EmulatorError, match="TILE_LAYOUT"):
        ttnn.matmul(upload(device, randn(32, 96), layout=ttnn.ROW_MAJOR_LAYOUT), x, transpose_b=True)
    with pytest.raises(EmulatorError, match="floating-point"):
        ttnn.matmul(upload(device, torch.ones(32, 96), ttnn.uint32), x, transpose_b=True)
    with pytest.raises(EmulatorError, match="linear takes one"):
        ttnn.matmul(x, x, transpose_b=True, bias=x)
    with pytest.raises(EmulatorError, match="bias has Shape"):
        ttnn.linear(x, x, transpose_b=True, bias=x)
    program = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(in0_block_w=2, per_core_M=1, per_core_N=1)
    with pytest.raises(EmulatorError, match="in0_block_w=2 does not divide K of 3 tiles"):
        ttnn.matmul(x, x, transpose_b=True, program_config=program)


@pytest.mark.parametrize("name", ["silu", "relu", "reciprocal", "square", "neg", "abs", "exp", "exp2", "sqrt", "rsqrt"])
@pytest.mark.parametrize("dtype", [ttnn.bfloat16, ttnn.float32])
def test_functions(any_device, name, dtype):
    x = randn(32, 64).abs() + 0.1
    computed = getattr(ttnn, name)(upload(any_device, x, dtype))
    exact = {"relu": F.relu, "silu": F.silu}.get(name) or getattr(torch, name)
    near(any_device, computed, exact(x), tolerance=1e-2)
    assert computed.dtype is dtype


@pytest.mark.parametrize("dtype", [ttnn.bfloat16, ttnn.float32, ttnn.bfloat8_b])
def test_eltwise_of_tensors_rows_columns_and_scalars(any_device, dtype):
    x, y, row, column = randn(64, 96), randn(64, 96).abs() + 1, randn(1, 96), randn(64, 1)
    a, b = upload(any_device, x, dtype), upload(any_device, y, dtype)
    near(any_device, ttnn.add(a, b), x + y)
    near(any_device, ttnn.subtract(a, upload(any_device, row)), x - row)
    near(any_device, ttnn.multiply(a, upload(any_device, column)), x * column)
    near(any_device, ttnn.divide(a, b), x / y, tolerance=0.05)
    near(any_device, ttnn.div(a, 3.0), x / 3)
    near(any_device, ttnn.rsub(a, 0.5), 0.5 - x)
    gated = ttnn.multiply(a, b, input_tensor_a_activations=[ttnn.UnaryOpType.SILU], activations=["relu"])
    near(any_device, gated, F.relu(F.silu(x) * y))


def test_integers_add_exactly_and_do_not_mix_with_floats(device):
    a = upload(device, torch.tensor([[1, 2_000_000_000]]), ttnn.int32)
    assert ttnn.to_torch(ttnn.add(a, 7)).tolist() == [[8, 2_000_000_007]]
    with pytest.raises(EmulatorError, match="do not mix"):
        ttnn.add(a, upload(device, randn(1, 2)))
    with pytest.raises(EmulatorError, match="do not broadcast"):
        ttnn.add(a, upload(device, torch.ones(1, 3), ttnn.int32))


@pytest.mark.parametrize("config", [None, FULL_FIDELITY])
def test_norms(any_device, config):
    x, weight, bias, residual = randn(1, 1, 32, 192), randn(192), randn(192), randn(1, 1, 32, 192)
    parameters = {"weight": upload(any_device, weight.view(1, -1)), "bias": upload(any_device, bias.view(1, -1))}
    both = {"epsilon": 1e-5, "compute_kernel_config": config}
    total = x + residual
    rms = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + 1e-5)
    inputs = upload(any_device, x), upload(any_device, residual)
    computed = ttnn.rms_norm(inputs[0], residual_input_tensor=inputs[1], **parameters, **both)
    near(any_device, computed, rms * weight + bias)
    computed = ttnn.layer_norm(inputs[0], **parameters, **both)
    near(any_device, computed, F.layer_norm(x, (192,), weight, bias))
    with pytest.raises(EmulatorError, match="weight has"):
        ttnn.rms_norm(inputs[0], weight=upload(any_device, torch.ones(1, 32)))


def test_softmax_sums_to_one(any_device):
    x = randn(2, 32, 70) * 3
    near(any_device, ttnn.softmax(upload(any_device, x), compute_kernel_config=FULL_FIDELITY), torch.softmax(x, -1))
    near(any_device, ttnn.softmax(upload(any_device, x)), torch.softmax(x, -1))


@pytest.mark.parametrize("dim", [-1, -2, 0, (1, 2), None])
def test_reductions(any_device, dim):
    x = randn(3, 40, 70)
    dims = tuple(range(3)) if dim is None else dim
    a = upload(any_device, x)
    near(any_device, ttnn.sum(a, dim, keepdim=True), x.sum(dims, keepdim=True))
    near(any_device, ttnn.mean(a, dim), x.mean(dims), tolerance=0.1)
    near(any_device, ttnn.max(a, dim), x.amax(dims))
    near(any_device, ttnn.min(a, dim, True), x.amin(dims, keepdim=True))
    wide = upload(any_device, x, ttnn.float32)
    near(any_device, ttnn.sum(wide, dim), x.sum(dims), tolerance=1e-5)


def test_argmax_gives_the_first_largest(any_device):
    x = torch.tensor([[0.0, 3.0, 1.0, 3.0]])
    found = ttnn.argmax(upload(any_device, x), -1)
    assert found.dtype is ttnn.uint32
    assert ttnn.to_torch(found).tolist() == [1]


def test_embedding_takes_rows(any_device):
    table, ids = randn(100, 64), torch.tensor([[3, 99, 0]])
    weight = upload(any_device, table, layout=ttnn.ROW_MAJOR_LAYOUT)
    found = ttnn.embedding(ttnn.from_torch(ids, dtype=ttnn.uint32, device=any_device), weight, layout=ttnn.TILE_LAYOUT)
    assert torch.equal(ttnn.to_torch(found).float(), table[ids])
    assert found.layout is ttnn.TILE_LAYOUT
    with pytest.raises(EmulatorError, match="ids run from 3 to 100, the table has 100 rows"):
        ttnn.embedding(ttnn.from_torch(torch.tensor([[3, 100]]), dtype=ttnn.uint32, device=any_device), weight)


def test_data_moves_as_in_torch(any_device):
    x = randn(2, 3, 40, 64)
    a = upload(any_device, x)
    for computed, exact in (
        (ttnn.reshape(a, (6, -1, 64)), x.reshape(6, 40, 64)),
        (ttnn.permute(a, (0, 2, 1, 3)), x.permute(0, 2, 1, 3)),
        (ttnn.transpose(a, -1, -2), x.mT),
        (ttnn.slice(a, [0, 1, 8, 0], [2, 3, 40, 64], [1, 1, 2, 1]), x[:, 1:, 8::2]),
        (ttnn.concat([a, a], dim=2), torch.cat([x, x], 2)),
        (ttnn.pad(a, [(0, 1), (0, 2)], 7.0), F.pad(x, (0, 2, 0, 1), value=7.0)),
        (ttnn.repeat(a, (1, 2, 1, 1)), x.repeat(1, 2, 1, 1)),
        (ttnn.unsqueeze_to_4D(ttnn.reshape(a, (6, 40, 64))), x.reshape(1, 6, 40, 64)),
        (ttnn.squeeze(ttnn.unsqueeze(a, 0), 0), x),
        (ttnn.clone(a), x),
    ):
        assert torch.equal(ttnn.to_torch(computed).float(), exact)
    with pytest.raises(EmulatorError, match="has 15360 elements"):
        ttnn.reshape(a, (7, 7))
    with pytest.raises(EmulatorError, match="differ outside dimension"):
        ttnn.concat([a, ttnn.transpose(a, -1, -2)], 0)
    with pytest.raises(EmulatorError, match="leaves dimension 3"):
        ttnn.slice(a, [0, 0, 0, 0], [2, 3, 40, 65])


def test_what_is_copied_does_not_change_with_its_source(device):
    source = torch.zeros(1, 1, 32, 32)
    cache = upload(device, source)
    twin = upload(device, source)
    part, copy, host = cache[:, :, :32], ttnn.clone(cache), cache.cpu()
    ttnn.fill_cache(cache, upload(device, torch.ones(1, 1, 32, 32)), 0)
    for untouched in (twin, part, copy, host):
        assert not ttnn.to_torch(untouched).any()
    assert not source.any()


@pytest.mark.parametrize(
    "dtype", [ttnn.bfloat16, ttnn.bfloat8_b, ttnn.bfloat4_b, ttnn.float32, ttnn.uint32, ttnn.int32]
)
def test_values_come_back_as_the_data_type_holds_them(device, dtype):
    x = torch.randint(0, 100, (32, 64)) if not dtype.is_float else torch.randn(32, 64)
    held = ttnn.to_torch(upload(device, x, dtype))
    assert torch.equal(held.double(), dtype.format.quantise(x).double())
    expected = torch.float32 if dtype.is_block else getattr(dtype.format, "torch_dtype", dtype.format.storage)
    assert held.dtype == expected
    host = ttnn.from_torch(x, dtype=dtype, layout=ttnn.TILE_LAYOUT)
    assert torch.equal(ttnn.to_torch(host).double(), held.double())


def test_the_ideal_engine_keeps_what_formats_would_lose(ideal):
    x = torch.randn(32, 64)
    assert torch.equal(ttnn.to_torch(upload(ideal, x, ttnn.bfloat4_b)), x)
    host = ttnn.from_torch(x, dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT)
    assert torch.equal(ttnn.to_torch(ttnn.to_device(host, ideal)), x)


def test_conversion_follows_layout_and_data_type_rules(device):
    x = upload(device, torch.randn(32, 64), ttnn.bfloat8_b)
    with pytest.raises(EmulatorError, match="TILE_LAYOUT only"):
        ttnn.to_layout(x, ttnn.ROW_MAJOR_LAYOUT)
    with pytest.raises(EmulatorError, match="TILE_LAYOUT only"):
        ttnn.from_torch(torch.zeros(32, 32), dtype=ttnn.bfloat4_b, layout=ttnn.ROW_MAJOR_LAYOUT)
    rows = ttnn.to_layout(x, ttnn.ROW_MAJOR_LAYOUT, ttnn.bfloat16)
    assert (rows.layout, rows.dtype) == (ttnn.ROW_MAJOR_LAYOUT, ttnn.bfloat16)
    wide = ttnn.typecast(x, ttnn.bfloat8_b, ttnn.float32)
    assert torch.equal(ttnn.to_torch(wide), ttnn.to_torch(x))
    assert ttnn.to_torch(ttnn.typecast(upload(device, torch.tensor([[-1.9, 2.9]])), ttnn.int32)).tolist() == [[-1, 2]]


def test_shards_must_hold_the_tensor(device):
    x = upload(device, torch.randn(1, 1, 64, 64))
    cores = ttnn.num_cores_to_corerangeset(2, ttnn.CoreCoord(8, 8), True)
    fits = ttnn.MemoryConfig(
        ttnn.TensorMemoryLayout.HEIGHT_SHARDED,
        ttnn.BufferType.L1,
        ttnn.ShardSpec(cores, (32, 64), ttnn.ShardOrientation.ROW_MAJOR),
    )
    placed = ttnn.to_memory_config(x, fits)
    assert placed.is_sharded()
    assert torch.equal(ttnn.to_torch(placed), ttnn.to_torch(x))
    again = ttnn.interleaved_to_sharded(
        x, cores, (32, 64), ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.ShardOrientation.ROW_MAJOR
    )
    assert again.memory_config() == fits
    assert not ttnn.sharded_to_interleaved(placed).is_sharded()
    with pytest.raises(EmulatorError, match="cannot hold 128×64"):
        ttnn.to_memory_config(ttnn.concat([x, x], 2), fits)
    with pytest.raises(EmulatorError, match="HEIGHT_SHARDED without a shard_spec"):
        ttnn.to_memory_config(x, ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG)
