# SPDX-License-Identifier: Apache-2.0
"""Softmax forms, norms, heads, rotary embeddings, caches, products and attention variants beside torch."""

import pytest
import torch
import torch.nn.functional as F
from device_tensors import FULL_FIDELITY, in_shards, near, randn, upload

from tttdebug.emulator import EmulatorError, ttnn

# B batch, H query heads, K key/value heads, S query positions, T key positions, E head dim


def back(tensor):
    return ttnn.to_torch(tensor).float()


def test_softmax_of_scaled_and_masked_scores(any_device):
    x, row = randn(2, 4, 64, 64) * 2, randn(2, 1, 32, 64)
    causal = torch.full((1, 1, 64, 64), -1e4).triu(1).bfloat16().float()
    a, mask, triangle = (upload(any_device, t) for t in (x, row, causal))
    masked = torch.softmax(x * 0.125 + row[:, :, :1], -1)
    unseen = torch.softmax(x * 0.125 + causal, -1)
    for computed, exact in (
        (ttnn.scale_mask_softmax(a, 0.125, mask), masked),
        (ttnn.scale_mask_softmax(a, 0.125, triangle, is_causal_mask=True), unseen),
        (ttnn.scale_mask_softmax(a, scale=0.125), torch.softmax(x * 0.125, -1)),
        (ttnn.scale_mask_softmax(a), torch.softmax(x, -1)),
        (ttnn.scale_mask_softmax(a, 0.125, mask, compute_kernel_config=FULL_FIDELITY), masked),
        (ttnn.transformer.attention_softmax(a, head_size=64, attention_mask=mask), masked),
        (ttnn.transformer.attention_softmax(a), torch.softmax(x, -1)),
    ):
        near(any_device, computed, exact, 0.06 if any_device.engine.name != "ideal" else None)
    for in_place, exact in (
        (lambda t: ttnn.softmax_in_place(t), torch.softmax(x, -1)),
        (lambda t: ttnn.scale_mask_softmax_in_place(t, 0.125, mask), masked),
        (lambda t: ttnn.scale_causal_mask_hw_dims_softmax_in_place(t, 0.125, triangle), unseen),
        (lambda t: ttnn.transformer.attention_softmax_(t, head_size=64, attention_mask=mask), masked),
    ):
        target = upload(any_device, x)
        assert in_place(target) is target
        near(any_device, target, exact, 0.06 if any_device.engine.name != "ideal" else None)


def test_a_scale_is_cut_to_bfloat16(device):
    x = upload(device, randn(1, 1, 32, 64) * 4)
    fine, coarse = 0.1, torch.tensor(0.1).view(torch.int32).bitwise_and(-65536).view(torch.float32).item()
    assert fine != coarse
    assert torch.equal(back(ttnn.scale_mask_softmax(x, fine)), back(ttnn.scale_mask_softmax(x, coarse)))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: ttnn.scale_mask_softmax(a, 1.0, a[..., :32]), r"ttnn\.scale_mask_softmax: mask .* does not fit"),
        (lambda a: ttnn.scale_mask_softmax(a, is_causal_mask=True), r"is_causal_mask=True without a mask"),
        (lambda a: ttnn.scale_causal_mask_hw_dims_softmax_in_place(a, 1.0), r"mask is None; give one of"),
        (lambda a: ttnn.softmax_in_place(a, 0), r"dim=0; only the last"),
        (lambda a: ttnn.softmax_in_place(a, compute_kernel_config=ttnn.WormholeComputeKernelConfig()), r"Invalid"),
    ],
)
def test_softmax_forms_refuse_what_does_not_fit(device, call, says):
    with pytest.raises(EmulatorError, match=says):
        call(upload(device, randn(1, 1, 32, 64)))


def test_batch_norm(any_device):
    x, mean, variance, weight, bias = randn(2, 3, 8, 32), randn(3), randn(3).abs() + 1, randn(3), randn(3)
    variance = variance.bfloat16().float()
    rows = {
        name: upload(any_device, t.reshape(1, 3, 1, 1))
        for name, t in {"running_mean": mean, "running_var": variance, "weight": weight, "bias": bias}.items()
    }
    near(any_device, ttnn.batch_norm(upload(any_device, x), **rows), F.batch_norm(x, mean, variance, weight, bias))
    with pytest.raises(EmulatorError, match=r"running_mean has Shape\(\[1, 3, 1, 1\]\), the input 2 channels"):
        ttnn.batch_norm(upload(any_device, x[:, :2]), **rows)
    with pytest.raises(EmulatorError, match="training=True is not emulated"):
        ttnn.batch_norm(upload(any_device, x), training=True, **rows)


def test_heads_are_split_and_joined(any_device):
    x = randn(2, 32, 6 * 64)
    q, k, v = ttnn.transformer.split_query_key_value_and_split_heads(upload(any_device, x), num_heads=4, num_kv_heads=1)
    assert torch.equal(back(q), x[..., :256].reshape(2, 32, 4, 64).transpose(1, 2))
    assert torch.equal(back(k), x[..., 256:320].reshape(2, 32, 1, 64).permute(0, 2, 3, 1))
    assert torch.equal(back(v), x[..., 320:].reshape(2, 32, 1, 64).transpose(1, 2))
    assert torch.equal(back(ttnn.transformer.concatenate_heads(q)), x[..., :256])
    apart = ttnn.transformer.split_query_key_value_and_split_heads(
        upload(any_device, x[..., :256]),
        upload(any_device, x[..., 256:]),
        num_heads=4,
        num_kv_heads=1,
        transpose_key=False,
    )
    assert torch.equal(back(apart[1]), back(k).mT)
    vit = randn(2, 1, 32, 2304)
    q, _, v = ttnn.experimental.nlp_create_qkv_heads_vit(upload(any_device, vit))
    assert torch.equal(back(q), vit[:, 0, :, :768].reshape(2, 32, 12, 64).transpose(1, 2))
    assert torch.equal(back(v), vit[:, 0, :, 1536:].reshape(2, 32, 12, 64).transpose(1, 2))
    with pytest.raises(EmulatorError, match="width 384 does not divide into 5 query heads"):
        ttnn.transformer.split_query_key_value_and_split_heads(upload(any_device, x), num_heads=5, num_kv_heads=1)
    with pytest.raises(EmulatorError, match="takes 12 heads of 64"):
        ttnn.experimental.nlp_create_qkv_heads_vit(upload(any_device, x[:, None]))


def rotated_halves(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def test_rotary_embedding_in_decode(any_device):
    x, cos, sin = randn(1, 4, 8, 64), randn(1, 4, 1, 64), randn(1, 4, 1, 64)
    computed = ttnn.experimental.rotary_embedding_hf(
        *(upload(any_device, t) for t in (x, cos, sin)), is_decode_mode=True
    )
    near(any_device, computed, rotated_halves(x, cos, sin))
    x, cos, sin = randn(1, 4, 8, 64), randn(1, 1, 8, 64), randn(1, 1, 8, 64)
    prefill = ttnn.experimental.rotary_embedding_hf(*(upload(any_device, t) for t in (x, cos, sin)))
    near(any_device, prefill, rotated_halves(x, cos, sin))


def test_queries_and_keys_are_rotated_at_once(any_device):
    users = 4
    q, k = randn(1, users, 8, 64), randn(1, users, 2, 64)
    cos, sin = randn(1, 2 * users, 1, 64), randn(1, 2 * users, 1, 64)
    swap = torch.zeros(32, 32)
    swap[torch.arange(0, 32, 2), torch.arange(1, 32, 2)] = 1
    swap[torch.arange(1, 32, 2), torch.arange(0, 32, 2)] = -1
    tables = [in_shards(any_device, t.expand(-1, -1, 32, -1)) for t in (cos, sin)]
    matrix = in_shards(any_device, swap.expand(1, 2 * users, 32, 32))
    new_q, new_k = ttnn.experimental.rotary_embedding_llama_fused_qk(
        in_shards(any_device, q), in_shards(any_device, k), *tables, matrix
    )
    for computed, x, first in ((new_q, q, 0), (new_k, k, users)):
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        own = slice(first, first + users)
        near(any_device, computed, x * cos[:, own] + turned * sin[:, own])
    with pytest.raises(EmulatorError, match="cos_cache has rows for 4 users; q has 4, k 4"):
        ttnn.experimental.rotary_embedding_llama_fused_qk(
            in_shards(any_device, q),
            in_shards(any_device, k),
            *(in_shards(any_device, randn(1, 4, 32, 64)),) * 2,
            matrix,
        )


def test_keys_and_values_are_cached_at_once(any_device):
    caches = [upload(any_device, torch.zeros(4, 2, 64, 64)) for _ in range(2)]
    rows = [randn(1, 4, 2, 64) for _ in range(2)]
    positions = [3, 0, -1, 63]
    written = ttnn.experimental.paged_fused_update_cache(
        caches[0], in_shards(any_device, rows[0]), caches[1], in_shards(any_device, rows[1]), update_idxs=positions
    )
    assert written == (caches[0], caches[1]) or all(a is b for a, b in zip(written, caches, strict=True))
    for cache, row in zip(caches, rows, strict=True):
        for user, position in enumerate(positions):
            if position >= 0:
                assert torch.equal(back(cache)[user, :, position], row[0, user])
        assert not back(cache)[2].any()


def test_products_of_other_kernels(any_device):
    x, w, bias = randn(1, 1, 64, 256), randn(256, 96) / 16, randn(1, 96)
    a, b, row = (upload(any_device, t) for t in (x, w.bfloat16().float(), bias))
    w = w.bfloat16().float()
    config = ttnn.MinimalMatmulConfig(M_block_size=2, K_block_size=4, N_block_size=3)
    for computed, exact in (
        (ttnn.experimental.minimal_matmul(a, b), x @ w),
        (ttnn.experimental.minimal_matmul(a, b, bias_tensor=row, config=config), x @ w + bias),
        (
            ttnn.experimental.minimal_matmul(a, b, fused_activation=ttnn.UnaryWithParam(ttnn.UnaryOpType.SILU)),
            F.silu(x @ w),
        ),
        (
            ttnn.addmm(upload(any_device, bias.expand(64, 96)), a[0, 0], b, alpha=0.5, beta=2.0),
            2 * bias + x[0, 0] @ w / 2,
        ),
        (ttnn.addmm(upload(any_device, bias.expand(64, 96)), a[0, 0], b, beta=0.0), x[0, 0] @ w),
    ):
        near(any_device, computed, exact)
    plan = ttnn.experimental.minimal_matmul(a, b, config=config).plan
    assert (plan.kernel.fidelity, plan.kernel.fp32_dest, plan.blocking.in0_block_w) == (
        ttnn.MathFidelity.HiFi2,
        True,
        4,
    )
    with pytest.raises(EmulatorError, match=r"minimal_matmul: \[1, 1, 64, 256\] @ \[64, 256\] do not multiply"):
        ttnn.experimental.minimal_matmul(a, a[0, 0])


def attention(q, k, v, mask, scale=None):
    groups = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(groups, 1) for t in (k, v))
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return torch.softmax(scores + mask, -1) @ v


def test_a_chunk_of_queries_sees_the_pages_before_it(any_device):
    pages, heads, length, size = 6, 2, 32, 64
    k, v = randn(pages, heads, length, size), randn(pages, heads, length, size)
    table = torch.tensor([[4, 1, 5, 0]])
    q = randn(1, 4, 64, size)
    tables = ttnn.from_torch(table, dtype=ttnn.int32, device=any_device)
    k_1KTE, v_1KTE = (t[table[0]].transpose(0, 1).flatten(1, 2)[None] for t in (k, v))
    hidden = torch.full((64, 128), -torch.inf).triu(65)  # query s of the chunk stands at position 64 + s
    exact = attention(q, k_1KTE, v_1KTE, hidden)
    for start in (
        {"chunk_start_idx": 64},
        {"chunk_start_idx_tensor": ttnn.from_torch(torch.tensor([64]), dtype=ttnn.int32, device=any_device)},
    ):
        computed = ttnn.transformer.chunked_scaled_dot_product_attention(
            upload(any_device, q), upload(any_device, k), upload(any_device, v), tables, **start
        )
        near(any_device, computed, exact, 0.08 if any_device.engine.name != "ideal" else None)
    arguments = [upload(any_device, t) for t in (q, k, v)]
    for wrong, says in (
        ({}, "one of them"),
        ({"chunk_start_idx": 40}, "chunk_start_idx=40 is no multiple of the q_chunk_size 32"),
        ({"chunk_start_idx": 96}, "positions up to 160 need more pages"),
    ):
        with pytest.raises(EmulatorError, match=says):
            ttnn.transformer.chunked_scaled_dot_product_attention(*arguments, tables, **wrong)


def test_a_chunk_gives_the_rows_of_the_whole(device):
    q, k, v = randn(1, 4, 128, 64), randn(1, 2, 128, 64), randn(1, 2, 128, 64)
    whole = back(ttnn.transformer.scaled_dot_product_attention(*(upload(device, t) for t in (q, k, v))))
    table = ttnn.from_torch(torch.arange(4)[None], dtype=ttnn.int32, device=device)
    pages = [upload(device, t[0].unflatten(1, (4, 32)).transpose(0, 1)) for t in (k, v)]
    chunk = ttnn.transformer.chunked_scaled_dot_product_attention(upload(device, q[:, :, 64:]), *pages, table, 64)
    assert torch.equal(back(chunk), whole[:, :, 64:])


def test_two_sequences_attend_jointly(any_device):
    q, k, v = (randn(1, 2, 64, 64) for _ in range(3))
    joint_q, joint_k, joint_v = (randn(1, 2, 32, 64) for _ in range(3))
    program = ttnn.SDPAProgramConfig(compute_with_storage_grid_size=(8, 8), q_chunk_size=32, k_chunk_size=32)
    arguments = [upload(any_device, t) for t in (q, k, v, joint_q, joint_k, joint_v)]
    first, second = ttnn.transformer.joint_scaled_dot_product_attention(
        *arguments, joint_strategy="rear", program_config=program
    )
    exact = attention(*(torch.cat(pair, 2) for pair in ((q, joint_q), (k, joint_k), (v, joint_v))), torch.zeros(1))
    tolerance = 0.08 if any_device.engine.name != "ideal" else None
    near(any_device, first, exact[:, :, :64], tolerance)
    near(any_device, second, exact[:, :, 64:], tolerance)
    with pytest.raises(EmulatorError, match="joint_strategy='front'; only 'rear'"):
        ttnn.transformer.joint_scaled_dot_product_attention(*arguments, joint_strategy="front", program_config=program)


def test_latent_attention_finds_its_values_in_its_keys(any_device):
    q, k = randn(1, 4, 64, 96), randn(1, 1, 64, 96)
    tolerance = 0.08 if any_device.engine.name != "ideal" else None
    hidden = torch.full((64, 64), -torch.inf).triu(1)
    computed = ttnn.transformer.flash_mla_prefill(upload(any_device, q), upload(any_device, k), 64, scale=0.1)
    assert computed.shape == [1, 4, 64, 64]
    near(any_device, computed, attention(q, k, k[..., :64], hidden, 0.1), tolerance)
    one, caches = randn(1, 2, 4, 96), randn(2, 1, 64, 96)
    computed = ttnn.transformer.flash_multi_latent_attention_decode(
        upload(any_device, one), upload(any_device, caches), head_dim_v=64, cur_pos=[9, 63]
    )
    for user, position in enumerate((9, 63)):
        seen = caches[user : user + 1, :, : position + 1]
        exact = attention(one[:, user].unsqueeze(2), seen, seen[..., :64], torch.zeros(1))
        near(any_device, computed[:, user : user + 1], exact.transpose(1, 2), tolerance)
    with pytest.raises(EmulatorError, match="head_dim_v=97; the keys have 96 columns"):
        ttnn.transformer.flash_mla_prefill(upload(any_device, q), upload(any_device, k), 97)
    with pytest.raises(EmulatorError, match="give head_dim_v and no input_tensor_v"):
        ttnn.transformer.flash_multi_latent_attention_decode(upload(any_device, one), upload(any_device, caches))


def test_arange_and_as_tensor(any_device):
    assert back(ttnn.arange(2, 20, 3, device=any_device)).tolist() == [2, 5, 8, 11, 14, 17]
    assert back(ttnn.arange(4, dtype=ttnn.float32, device=any_device)).tolist() == [0, 1, 2, 3]
    x = randn(32, 32)
    put = {"layout": ttnn.TILE_LAYOUT, "device": any_device}
    with pytest.raises(EmulatorError, match="a memory_config must be given"):
        ttnn.as_tensor(x, ttnn.bfloat16, **put)
    put["memory_config"] = ttnn.DRAM_MEMORY_CONFIG
    made = ttnn.as_tensor(x, ttnn.bfloat16, **put, preprocess=lambda t: 2 * t)
    assert torch.equal(back(made), 2 * x)
    assert torch.equal(back(ttnn.from_device(made)), 2 * x)
    assert torch.equal(
        back(ttnn.index_fill_new(made, 0, upload(any_device, torch.tensor([1]), ttnn.uint32), 0.0))[1], torch.zeros(32)
    )


def test_tensors_are_compared_and_divided_by_operators(any_device):
    x, y = randn(32, 32).abs() + 1, randn(32, 32)
    x = x.bfloat16().float()
    a, b = upload(any_device, x), upload(any_device, y)
    for computed, exact in (
        (a < b, x < y),
        (a <= 1.5, x <= 1.5),
        (a > b, x > y),
        (a >= b, x >= y),
        (a == a, torch.ones(32, 32)),
        (a != b, x != y),
        (2.0 / a, 2 / x),
    ):
        near(any_device, computed, exact.float())
    assert len({a, b, a}) == 2
    assert a.to_list()[0][0] == pytest.approx(x[0, 0].item())


def test_questions_about_tensors_and_chips(device):
    a = upload(device, randn(1, 2, 40, 40), ttnn.bfloat8_b)
    assert (ttnn.tile_size(a.dtype), ttnn.tile_size(ttnn.bfloat16), ttnn.tile_size(ttnn.bfloat4_b)) == (1088, 2048, 576)
    assert (ttnn.element_size(ttnn.float32), ttnn.element_size(ttnn.bfloat16)) == (4, 2)
    assert ttnn.has_tile_padding(a)
    assert not ttnn.has_tile_padding(a, dim=1)
    assert not ttnn.is_sharded(a)
    assert ttnn.get_memory_config(a) == ttnn.DRAM_MEMORY_CONFIG
    assert ttnn.has_storage_type_of(a, ttnn.StorageType.DEVICE)
    assert ttnn.get_arch_name() == "wormhole_b0"
    assert ttnn.device.is_wormhole_b0(device)
    assert not ttnn.device.is_blackhole(device)
    cores = ttnn.num_cores_to_corerangeset(3, ttnn.CoreCoord(8, 8), row_wise=True)
    assert ttnn.corerange_to_cores(cores, row_wise=True) == [ttnn.CoreCoord(x, 0) for x in range(3)]
    with pytest.raises(EmulatorError, match="only 32×32 is emulated"):
        ttnn.Tile((16, 32))
    assert ttnn.from_torch(torch.ones(2, 2), ttnn.bfloat16, tile=ttnn.Tile((32, 32))).shape == [2, 2]


def test_a_default_device_is_remembered(device):
    ttnn.SetDefaultDevice(device)
    assert ttnn.GetDefaultDevice() is device
    ttnn.SetDefaultDevice(None)
    assert ttnn.GetDefaultDevice() is None


def test_the_largest_are_found_and_put_back(any_device):
    x = randn(4, 64)
    values, places = ttnn.topk(upload(any_device, x), 8)
    assert torch.equal(back(values), x.topk(8).values)
    assert places.dtype is ttnn.uint16
    put = ttnn.scatter(ttnn.zeros_like(upload(any_device, x)), 1, places, values)
    kept = torch.where(x >= x.topk(8).values[:, -1:], x, 0)
    assert torch.equal(back(put), kept)


def test_short_names_are_the_same_ops():
    assert ttnn.mul is ttnn.multiply
    assert ttnn.sub is ttnn.subtract
    assert ttnn.div is ttnn.divide


def test_a_token_is_put_into_a_cache(any_device):
    cache, rows = upload(any_device, torch.zeros(2, 1, 64, 32)), randn(1, 1, 32, 32)
    assert ttnn.kv_cache.update_cache_for_token_(cache, upload(any_device, rows), 5) is cache
    assert torch.equal(back(cache)[:, 0, 5], rows[0, 0, :2])


def test_moving_frees_the_old_place(any_device):
    a = ttnn.ones((32, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, any_device)
    moved = ttnn.reallocate(a, ttnn.L1_MEMORY_CONFIG)
    assert (a.is_allocated(), moved.memory_config(), back(moved).min().item()) == (False, ttnn.L1_MEMORY_CONFIG, 1.0)


def test_the_host_converts_host_tensors(device):
    x = torch.tensor([[1.00390625, 3.1]])
    host = ttnn.to_dtype(ttnn.from_torch(x, ttnn.float32), ttnn.bfloat16)
    assert (host.dtype, ttnn.to_torch(host).dtype) == (ttnn.bfloat16, torch.bfloat16)
    with pytest.raises(EmulatorError, match=r"ttnn\.to_dtype: the tensor is on a device; use typecast"):
        ttnn.to_dtype(upload(device, x), ttnn.float32)


def test_a_tensor_is_made_and_taken_to_a_device_by_itself(device):
    x = torch.tensor([[1.00390625, 2.0]])
    a = ttnn.Tensor(x, ttnn.bfloat16).to(ttnn.TILE_LAYOUT).to(device, ttnn.L1_MEMORY_CONFIG)
    assert (a.layout, a.device(), a.memory_config()) == (ttnn.TILE_LAYOUT, device, ttnn.L1_MEMORY_CONFIG)
    assert a.cpu().to_torch().tolist() == [[1.0, 2.0]]
    assert a.to_numpy().tolist() == [[1.0, 2.0]]
    assert ttnn.Tensor(torch.ones(32, 32), ttnn.bfloat8_b).layout is ttnn.TILE_LAYOUT
    with pytest.raises(EmulatorError, match=r"ttnn\.Tensor: list and .*; give a torch tensor and a data type"):
        ttnn.Tensor([1.0], ttnn.bfloat16)
