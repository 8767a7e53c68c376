# SPDX-License-Identifier: Apache-2.0
"""What each op computes, on both engines, against plain torch; and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.emulator import EmulatorError, open_device, ttnn

# How far the engines may be from fp32 arithmetic on the same inputs, relative to the largest value.
TOLERANCE = {"ideal": 1e-5, "fast": 0.04}
FULL = ttnn.WormholeComputeKernelConfig(
    math_fidelity=ttnn.MathFidelity.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True
)


def upload(device, x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, **options):
    return ttnn.from_torch(x, dtype=dtype, layout=layout, device=device, **options)


def near(device, computed, exact, tolerance=None):
    computed = ttnn.to_torch(computed).float()
    assert computed.shape == exact.shape
    off = (computed - exact).abs().max() / exact.abs().max()
    assert off <= (tolerance or TOLERANCE[device.engine.name]), off


def randn(*shape):
    return torch.randn(*shape).bfloat16().float()


def in_shards(device, x):
    """[1, B, rows, columns], a core per user."""
    users, rows, columns = x.shape[1], -(-x.shape[2] // 32) * 32, x.shape[3]
    cores = ttnn.num_cores_to_corerangeset(users, device.compute_with_storage_grid_size(), True)
    config = ttnn.create_sharded_memory_config(
        (rows, columns), cores, ttnn.ShardStrategy.HEIGHT, use_height_and_width_as_shard_shape=True
    )
    return upload(device, x, memory_config=config)


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
    with pytest.raises(EmulatorError, match="activation 'mish' is not emulated; known are identity, exp"):
        ttnn.linear(x, x, transpose_b=True, activation="mish")


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


@pytest.mark.parametrize("config", [None, FULL])
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
    near(any_device, ttnn.softmax(upload(any_device, x), compute_kernel_config=FULL), torch.softmax(x, -1))
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


def attention(q, k, v, mask):
    groups = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), mask)


@pytest.mark.parametrize("length", [32, 80, 128])
@pytest.mark.parametrize("config", [None, FULL])
def test_causal_attention_with_shared_heads(any_device, length, config):
    q, k, v = randn(2, 6, length, 64), randn(2, 2, length, 64), randn(2, 2, length, 64)
    computed = ttnn.transformer.scaled_dot_product_attention(
        *(upload(any_device, x) for x in (q, k, v)), is_causal=True, compute_kernel_config=config
    )
    near(any_device, computed, attention(q, k, v, torch.ones(length, length, dtype=torch.bool).tril()))


def test_attention_with_a_mask_and_more_keys_than_queries(any_device):
    q, k, v = randn(1, 4, 32, 64), randn(1, 4, 96, 64), randn(1, 4, 96, 64)
    mask = torch.zeros(1, 1, 32, 96).masked_fill(torch.rand(1, 1, 32, 96) < 0.3, -torch.inf)
    tensors = [upload(any_device, x) for x in (q, k, v)]
    computed = ttnn.transformer.scaled_dot_product_attention(
        *tensors, is_causal=False, attn_mask=upload(any_device, mask), compute_kernel_config=FULL
    )
    near(any_device, computed, attention(q, k, v, mask))
    with pytest.raises(EmulatorError, match="exclude each other"):
        ttnn.transformer.scaled_dot_product_attention(*tensors, attn_mask=upload(any_device, mask))


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("heads", [4, 32])
def test_decode_attention_sees_each_users_keys_up_to_its_position(any_device, heads, paged):
    positions, length = [70, 0, -1], 128
    q, k, v = randn(1, 3, heads, 64), randn(3, 2, length, 64), randn(3, 2, length, 64)
    where = ttnn.from_torch(torch.tensor(positions), dtype=ttnn.int32, device=any_device)
    decode, inputs = ttnn.transformer.scaled_dot_product_attention_decode, [k, v]
    pages = ()
    if paged:
        decode = ttnn.transformer.paged_scaled_dot_product_attention_decode
        order = torch.randperm(3 * 4).view(3, 4)
        inputs = [torch.empty(12, 2, 32, 64) for _ in inputs]
        for pool, cache in zip(inputs, (k, v), strict=True):
            pool[order.flatten()] = cache.unflatten(2, (4, 32)).transpose(1, 2).flatten(0, 1)
        pages = (ttnn.from_torch(order, dtype=ttnn.int32, device=any_device),)
    computed = decode(upload(any_device, q), *(upload(any_device, x) for x in inputs), *pages, cur_pos_tensor=where)
    exact = torch.zeros(1, 3, heads, 64)
    for user, position in enumerate(positions[:2]):
        seen = slice(0, position + 1)
        exact[0, user] = attention(q[:, user, :, None], k[[user], :, seen], v[[user], :, seen], None)[0, :, 0]
    near(any_device, computed, exact, tolerance=None if any_device.engine.name == "ideal" else 0.08)
    with pytest.raises(EmulatorError, match="user 1 is at position 128, the cache holds 128"):
        decode(
            upload(any_device, q),
            *(upload(any_device, x) for x in inputs),
            *pages,
            cur_pos_tensor=ttnn.from_torch(torch.tensor([0, 128, 0]), dtype=ttnn.int32, device=any_device),
        )


def test_attention_refuses_heads_that_do_not_fit(device):
    q, k = upload(device, randn(1, 5, 32, 64)), upload(device, randn(1, 2, 32, 64))
    with pytest.raises(EmulatorError, match="query heads divide by the 2"):
        ttnn.transformer.scaled_dot_product_attention(q, k, k)


@given(st.integers(1, 3), st.sampled_from([1, 2, 4]), st.sampled_from([32, 64]), st.integers(1, 70))
@settings(max_examples=20, deadline=None)
def test_heads_split_and_join_again(batch, kv_heads, size, length):
    device, heads = open_device("ideal"), 2 * kv_heads
    fused = randn(batch, 1, length, (heads + 2 * kv_heads) * size)
    q, k, v = ttnn.experimental.nlp_create_qkv_heads(
        upload(device, fused), num_heads=heads, num_kv_heads=kv_heads, transpose_k_heads=False
    )
    assert (q.shape, k.shape) == ([batch, heads, length, size], [batch, kv_heads, length, size])
    joined = torch.cat([ttnn.to_torch(ttnn.experimental.nlp_concat_heads(t)) for t in (q, k, v)], -1)
    assert torch.equal(joined, fused)
    transposed = ttnn.experimental.nlp_create_qkv_heads(upload(device, fused), num_heads=heads, num_kv_heads=kv_heads)[
        1
    ]
    assert torch.equal(ttnn.to_torch(transposed), ttnn.to_torch(k).mT)


def test_decode_heads_split_and_join_again(any_device):
    fused = randn(1, 1, 5, (6 + 4) * 32)
    q, k, _ = ttnn.experimental.nlp_create_qkv_heads_decode(
        upload(any_device, fused), num_heads=6, num_kv_heads=2, memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG
    )
    assert (q.shape, k.shape, q.padded_shape) == ([1, 5, 6, 32], [1, 5, 2, 32], [1, 5, 32, 32])
    assert q.memory_config().shard_spec.shape == (32, 32)
    joined = ttnn.experimental.nlp_concat_heads_decode(q, num_heads=6)
    assert joined.shape == [1, 1, 32, 192]
    assert torch.equal(ttnn.to_torch(joined)[:, :, :5].float(), fused[..., :192])
    assert not ttnn.to_torch(joined)[:, :, 5:].any()
    interleaved = ttnn.sharded_to_interleaved(q)
    with pytest.raises(EmulatorError, match="needs it sharded"):
        ttnn.experimental.nlp_concat_heads_decode(interleaved, num_heads=6)


def pair_swap():
    transform = torch.zeros(1, 1, 32, 32)
    even = torch.arange(0, 32, 2)
    transform[..., even, even + 1], transform[..., even + 1, even] = 1.0, -1.0
    return transform


def test_rotary_embeddings(any_device):
    x, angles = randn(1, 3, 40, 64), torch.rand(1, 1, 64, 32) * 6
    pairs = angles.repeat_interleave(2, -1)
    cos, sin, transform = (upload(any_device, t) for t in (pairs.cos(), pairs.sin(), pair_swap()))
    computed = ttnn.experimental.rotary_embedding_llama(upload(any_device, x), cos, sin, transform)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones(40, 32), angles[0, 0, :40])
    near(any_device, computed, torch.view_as_real(turned).flatten(-2))

    halves = torch.cat([angles, angles], -1)
    cos, sin = upload(any_device, halves.cos()), upload(any_device, halves.sin())
    first, second = x.chunk(2, -1)
    exact = x * halves.cos()[..., :40, :] + torch.cat([-second, first], -1) * halves.sin()[..., :40, :]
    near(any_device, ttnn.experimental.rotary_embedding(upload(any_device, x), cos, sin), exact)


def test_rotary_embedding_of_a_decode_step_turns_each_user_by_its_own_angle(any_device):
    x, angles = randn(1, 4, 6, 64), torch.rand(1, 4, 1, 32) * 6
    pairs = angles.repeat_interleave(2, -1)
    transform = in_shards(any_device, pair_swap().repeat(1, 4, 1, 1))
    cos, sin, heads = (in_shards(any_device, t) for t in (pairs.cos(), pairs.sin(), x))
    computed = ttnn.experimental.rotary_embedding_llama(heads, cos, sin, transform, is_decode_mode=True)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones(1, 4, 1, 32), angles)
    near(any_device, computed, torch.view_as_real(turned).flatten(-2))
    with pytest.raises(EmulatorError, match="input_tensor is interleaved"):
        ttnn.experimental.rotary_embedding_llama(upload(any_device, x), cos, sin, transform, is_decode_mode=True)


@pytest.mark.parametrize("dtype", [ttnn.bfloat16, ttnn.bfloat8_b])
def test_caches_are_filled_and_updated_in_place(any_device, dtype):
    cache = ttnn.zeros((3, 2, 96, 64), dtype, ttnn.TILE_LAYOUT, any_device)
    fresh, step = randn(1, 2, 40, 64), randn(1, 3, 2, 64)
    filled = ttnn.kv_cache.fill_cache_for_user_(cache, ttnn.typecast(upload(any_device, fresh), dtype), 1)
    assert filled is cache
    ttnn.experimental.paged_update_cache(cache, in_shards(any_device, step), update_idxs=[0, 40, -1])
    expected = torch.zeros(3, 2, 96, 64)
    expected[1, :, :40], expected[0, :, 0], expected[1, :, 40] = fresh[0], step[0, 0], step[0, 1]
    near(any_device, cache, expected)
    ttnn.update_cache(cache, upload(any_device, randn(1, 2, 3, 64)), 95)
    assert ttnn.to_torch(cache)[:, :, 95].abs().amax(-1).gt(0).all()
    with pytest.raises(EmulatorError, match=r"does not fit|typecast the input first"):
        ttnn.fill_cache(cache, upload(any_device, randn(1, 2, 120, 64)), 0)


def test_paged_caches_find_their_pages(any_device):
    pool = ttnn.zeros((6, 2, 32, 64), ttnn.bfloat16, ttnn.TILE_LAYOUT, any_device)
    table = torch.tensor([[4, 0], [1, 5]])
    pages, fresh, step = (
        ttnn.from_torch(table, dtype=ttnn.int32, device=any_device),
        randn(1, 2, 40, 64),
        randn(1, 2, 2, 64),
    )
    ttnn.experimental.paged_fill_cache(pool, upload(any_device, fresh), pages, batch_idx=1)
    ttnn.experimental.paged_update_cache(pool, in_shards(any_device, step), update_idxs=[33, 40], page_table=pages)
    held = ttnn.to_torch(pool).float()
    assert torch.equal(held[1], fresh[0, :, :32])
    assert torch.equal(held[5, :, :8], fresh[0, :, 32:])
    assert torch.equal(held[0, :, 1], step[0, 0])
    assert torch.equal(held[5, :, 8], step[0, 1])
    with pytest.raises(EmulatorError, match="index of user 0 is 64"):
        ttnn.experimental.paged_update_cache(pool, in_shards(any_device, step), update_idxs=[64, 0], page_table=pages)


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
