# SPDX-License-Identifier: Apache-2.0
"""What ttnn's ops on heads should compute, in plain torch: splitting, rotary embedding, attention.

Arguments and outputs are as in `op_goldens`. None of these ops but attention has a golden function in ttnn itself.
B users, H query heads, K key/value heads, S positions, T positions of a cache, E head dim, P pages a user.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tttdebug.tracking.op_goldens import Golden, NoGoldenError


def create_qkv_heads(
    input: Tensor,
    input_kv: Tensor | None = None,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    transpose_k_heads: bool = True,
    **_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if input_kv is None:
        head = input.shape[-1] // (num_heads + 2 * kv_heads)
        q, k, v = input.split([num_heads * head, kv_heads * head, kv_heads * head], -1)
    else:
        q, (k, v) = input, input_kv.chunk(2, -1)
    q, k, v = (
        x.reshape(x.shape[0], x.shape[-2], heads, -1).transpose(1, 2)
        for x, heads in ((q, num_heads), (k, kv_heads), (v, kv_heads))
    )
    return q, (k.mT if transpose_k_heads else k), v


def create_qkv_heads_decode(
    input_tensor: Tensor, *, num_heads: int, num_kv_heads: int | None = None, **further: Any
) -> tuple[Tensor, Tensor, Tensor]:
    if further.get("batch_offset") is not None or further.get("slice_size") is not None:
        raise NoGoldenError("nlp_create_qkv_heads_decode of a part of the users")
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    heads_1BNE = input_tensor.reshape(1, input_tensor.shape[-2], num_heads + 2 * kv_heads, -1)
    q, k, v = heads_1BNE.split([num_heads, kv_heads, kv_heads], 2)
    return q, k, v


def concat_heads(input_tensor: Tensor, **_: Any) -> Tensor:
    return input_tensor.transpose(1, 2).flatten(2).unsqueeze(1)


def concatenate_heads(input_tensor: Tensor, **_: Any) -> Tensor:
    return input_tensor.transpose(1, 2).flatten(2)


def concat_heads_decode(input_tensor: Tensor, *, num_heads: int, **_: Any) -> Tensor:
    """[1, 1, B, H·E]; the op's rows beyond the users are padding."""
    return input_tensor[:, :, :num_heads].flatten(2).unsqueeze(1)


def rotary_embedding_llama(
    input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    trans_mat: Tensor,
    *,
    is_decode_mode: bool = False,
    **_: Any,
) -> Tensor:
    cos, sin = _tables(input_tensor, cos_cache, sin_cache, is_decode_mode)
    tile = trans_mat.shape[-1]
    turned = input_tensor.unflatten(-1, (-1, tile)) @ trans_mat.reshape(-1, tile)[:tile]
    return input_tensor * cos + turned.flatten(-2) * sin


def rotary_embedding_llama_fused_qk(
    q_input_tensor: Tensor, k_input_tensor: Tensor, cos_cache: Tensor, sin_cache: Tensor, trans_mat: Tensor, **_: Any
) -> tuple[Tensor, Tensor]:
    users = q_input_tensor.shape[1]
    q = rotary_embedding_llama(q_input_tensor, cos_cache, sin_cache, trans_mat, is_decode_mode=True)
    rest = (cos_cache[:, users:], sin_cache[:, users:])
    return q, rotary_embedding_llama(k_input_tensor, *rest, trans_mat, is_decode_mode=True)


def rotary_embedding_hf(
    input_tensor: Tensor, cos_cache: Tensor, sin_cache: Tensor, *, is_decode_mode: bool = False, **_: Any
) -> Tensor:
    return _by_halves(input_tensor, *_tables(input_tensor, cos_cache, sin_cache, is_decode_mode))


def rotary_embedding(
    input_tensor: Tensor, cos_cache: Tensor, sin_cache: Tensor, token_index: int | None = None, **_: Any
) -> Tensor:
    if token_index is not None:
        rows = slice(token_index, token_index + 1)
        return _by_halves(input_tensor, cos_cache[..., rows, :], sin_cache[..., rows, :])
    return _by_halves(input_tensor, *_tables(input_tensor, cos_cache, sin_cache, False))


def _by_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def _tables(x: Tensor, cos: Tensor, sin: Tensor, decode: bool) -> tuple[Tensor, Tensor]:
    if decode:
        return cos[:, : x.shape[1], :1], sin[:, : x.shape[1], :1]
    return cos[..., : x.shape[-2], :], sin[..., : x.shape[-2], :]


def attention(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    **further: Any,
) -> Tensor:
    _refuse(further, "attention_sink", "cu_window_seqlens")
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    queries, keys = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])[None]
    seen = (keys <= queries) if is_causal else torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
    if sliding_window_size is not None:
        seen = seen & (keys > queries - sliding_window_size)
    bias = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    if attn_mask is not None:
        bias = bias + attn_mask[..., : q.shape[-2], : k.shape[-2]]
    return _attend(q, k, v, bias, scale)


def _attend(q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, bias: Tensor, scale: float | None) -> Tensor:
    shared = q_BHSE.shape[1] // k_BKTE.shape[1]
    k, v = (x.repeat_interleave(shared, 1) for x in (k_BKTE, v_BKTE))
    scores = q_BHSE @ k.mT * _scale_of(q_BHSE.shape[-1], scale) + bias
    return torch.softmax(scores, -1) @ v


def attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    *,
    is_causal: bool = True,
    cur_pos: Any = (),
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    **further: Any,
) -> Tensor:
    _refuse(further, "attention_sink", "attn_mask")
    return _one_query_each(
        input_tensor_q,
        input_tensor_k,
        input_tensor_v,
        positions_of(cur_pos, cur_pos_tensor) if is_causal else None,
        scale,
        sliding_window_size,
    )


def paged_attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    page_table_tensor: Tensor,
    *,
    is_causal: bool = True,
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    **further: Any,
) -> Tensor:
    _refuse(further, "attention_sink", "attn_mask", "cache_position_modulo")
    pages_BP = page_table_tensor[: input_tensor_q.shape[1]].long()
    k, v = (cache[pages_BP.clamp(min=0)].transpose(1, 2).flatten(2, 3) for cache in (input_tensor_k, input_tensor_v))
    positions = positions_of((), cur_pos_tensor) if is_causal else None
    return _one_query_each(input_tensor_q, k, v, positions, scale, sliding_window_size)


def _one_query_each(
    q_1BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int] | None, scale: float | None, window: int | None
) -> Tensor:
    outputs = []
    for user in range(q_1BHE.shape[1]):
        last = k_BKTE.shape[2] - 1 if positions is None else positions[user]
        first = 0 if window is None else max(0, last + 1 - window)
        keys, values = (x[user : user + 1, :, first : last + 1] for x in (k_BKTE, v_BKTE))
        q_1H1E = q_1BHE[:, user, :, None]
        outputs.append(torch.zeros_like(q_1H1E) if last < 0 else _attend(q_1H1E, keys, values, torch.zeros(()), scale))
    return torch.stack([out[:, :, 0] for out in outputs], 1)


def _refuse(further: dict[str, Any], *names: str) -> None:
    if asked := [name for name in names if further.get(name) is not None]:
        raise NoGoldenError(f"attention with {', '.join(asked)}")


def _scale_of(head_dim: int, scale: float | None) -> float:
    """Attention's scale: as given, else 1 / sqrt(E)."""
    return 1.0 / math.sqrt(head_dim) if scale is None else scale


def positions_of(given: Any, tensor: Tensor | None) -> list[int]:
    """The positions of the users, which an op takes as numbers or as a tensor."""
    return [int(p) for p in (tensor.flatten() if tensor is not None else given)]


HEADS: dict[str, Golden] = {
    "ttnn.experimental.nlp_create_qkv_heads": create_qkv_heads,
    "ttnn.experimental.nlp_create_qkv_heads_decode": create_qkv_heads_decode,
    "ttnn.experimental.nlp_concat_heads": concat_heads,
    "ttnn.experimental.nlp_concat_heads_decode": concat_heads_decode,
    "ttnn.transformer.concatenate_heads": concatenate_heads,
    "ttnn.experimental.rotary_embedding": rotary_embedding,
    "ttnn.experimental.rotary_embedding_hf": rotary_embedding_hf,
    "ttnn.experimental.rotary_embedding_llama": rotary_embedding_llama,
    "ttnn.experimental.rotary_embedding_llama_fused_qk": rotary_embedding_llama_fused_qk,
    "ttnn.transformer.scaled_dot_product_attention": attention,
    "ttnn.transformer.scaled_dot_product_attention_decode": attention_decode,
    "ttnn.transformer.paged_scaled_dot_product_attention_decode": paged_attention_decode,
}

PADDED_ROWS = frozenset(
    {
        "ttnn.experimental.nlp_concat_heads_decode",
        "ttnn.transformer.scaled_dot_product_attention_decode",
        "ttnn.transformer.paged_scaled_dot_product_attention_decode",
    }
)
"""Ops whose output may have more rows than there are users or heads; what is in them means nothing."""
