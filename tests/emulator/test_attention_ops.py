# SPDX-License-Identifier: Apache-2.0
"""Attention, heads, rotary embeddings and caches on both engines, against plain torch; and what they refuse."""

import pytest
import torch
import torch.nn.functional as F
from device_tensors import FULL_FIDELITY, in_shards, near, randn, upload
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.emulator import EmulatorError, open_device, ttnn


def attention(q, k, v, mask):
    groups = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), mask)


@pytest.mark.parametrize("length", [32, 80, 128])
@pytest.mark.parametrize("config", [None, FULL_FIDELITY])
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
        *tensors, is_causal=False, attn_mask=upload(any_device, mask), compute_kernel_config=FULL_FIDELITY
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
