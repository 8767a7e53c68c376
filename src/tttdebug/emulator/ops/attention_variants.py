# SPDX-License-Identifier: Apache-2.0
"""Attention by way of the plain kind: in chunks over a paged cache, jointly over two sequences, multi-latent (MLA)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import WormholeComputeKernelConfig
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile, result
from tttdebug.emulator.ops.attention import (
    check_heads,
    gather_pages,
    largest_chunk,
    make_plan,
    positions_of,
    scaled_dot_product_attention,
)
from tttdebug.emulator.programs import SDPAProgramConfig
from tttdebug.emulator.tensor import Tensor

# B batch, H query heads, K key/value heads, S query positions, T key positions, E head dim


@operation(
    "ttnn.transformer.chunked_scaled_dot_product_attention",
    accepts="memory_config",
    only={"paged_cache_geometry": None, "sliding_window_size": None, "attention_sink": None},
)
def chunked_scaled_dot_product_attention(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    page_table_tensor: Tensor,
    chunk_start_idx: int | None = None,
    *,
    chunk_start_idx_tensor: Tensor | None = None,
    scale: float | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """Causal attention of queries at positions chunk_start_idx… over caches [pages, K, page length, E]."""
    op = "ttnn.transformer.chunked_scaled_dot_product_attention"
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    check_heads(op, q, k, v, query_heads=q.shape[1])
    if (chunk_start_idx is None) == (chunk_start_idx_tensor is None):
        raise EmulatorError(f"{op}: give chunk_start_idx or chunk_start_idx_tensor, one of them")
    start = int(chunk_start_idx_tensor.values.reshape(-1)[0]) if chunk_start_idx_tensor else chunk_start_idx
    assert start is not None
    plan = make_plan(op, q, scale, True, program_config, compute_kernel_config, k_chunk=32)
    if start < 0 or start % plan.q_chunk:
        raise EmulatorError(f"{op}: chunk_start_idx={start} is no multiple of the q_chunk_size {plan.q_chunk}")
    users, end = q.shape[0], start + q.shape[2]
    pages = page_table_tensor.values[:users].long()
    if end > pages.shape[1] * k.shape[2]:
        raise EmulatorError(
            f"{op}: positions up to {end} need more pages than page_table {page_table_tensor.shape} has"
        )
    k_BKTE, v_BKTE = (gather_pages(cache.values, pages)[:, :, :end].contiguous() for cache in (k, v))
    q_BHTE = torch.nn.functional.pad(q.values, (0, 0, start, 0))  # as if the earlier queries were there: causal rows
    values = device_of(q).engine.attention(q_BHTE, k_BKTE, v_BKTE, None, plan)
    return result(values[:, :, start:].contiguous(), q, plan=plan)


@operation("ttnn.transformer.joint_scaled_dot_product_attention")
def joint_scaled_dot_product_attention(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    joint_tensor_q: Tensor,
    joint_tensor_k: Tensor,
    joint_tensor_v: Tensor,
    *,
    joint_strategy: str,
    program_config: SDPAProgramConfig,
    scale: float | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of two sequences, the joint one behind the other, over both; gives the outputs of each."""
    op = "ttnn.transformer.joint_scaled_dot_product_attention"
    if joint_strategy != "rear":
        raise EmulatorError(f"{op}: joint_strategy={joint_strategy!r}; only 'rear'")
    pairs = (
        (input_tensor_q, joint_tensor_q),
        (input_tensor_k, joint_tensor_k),
        (input_tensor_v, joint_tensor_v),
    )
    for own, joint in pairs:
        same = len(own.shape) == len(joint.shape) == 4 and all(own.shape[d] == joint.shape[d] for d in (0, 1, 3))
        if not same or own.dtype is not joint.dtype:
            raise EmulatorError(f"{op}: {own} and {joint} must agree but for the sequence")
    q, k, v = (result(torch.cat([own.values, joint.values], 2), own) for own, joint in pairs)
    joined = scaled_dot_product_attention(
        q,
        k,
        v,
        is_causal=False,
        scale=scale,
        program_config=program_config,
        compute_kernel_config=compute_kernel_config,
    )
    length = input_tensor_q.shape[2]
    first, second = joined.values[:, :, :length], joined.values[:, :, length:]
    return result(first.contiguous(), input_tensor_q), result(second.contiguous(), joint_tensor_q)


def _latent(op: str, k: Tensor, head_dim_v: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys, and the values inside them: their first `head_dim_v` columns, the rest zero."""
    if not 1 <= head_dim_v <= k.shape[-1]:
        raise EmulatorError(f"{op}: head_dim_v={head_dim_v}; the keys have {k.shape[-1]} columns")
    keys = k.values
    return keys, torch.nn.functional.pad(keys[..., :head_dim_v], (0, keys.shape[-1] - head_dim_v))


def _check_latent(op: str, q: Tensor, k: Tensor, *, query_heads: int) -> None:
    require_tile(op, input_tensor_k=k)
    require_float(op, input_tensor_q=q, input_tensor_k=k)
    if len(q.shape) != 4 or len(k.shape) != 4 or q.shape[-1] != k.shape[-1] or query_heads % k.shape[1]:
        raise EmulatorError(f"{op}: q {q.shape} and k {k.shape}: four sizes, equal heads and a divisor of query heads")


@operation("ttnn.transformer.flash_mla_prefill", accepts="memory_config", only={"input_tensor_v": None})
def flash_mla_prefill(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    head_dim_v: int,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """Multi-latent attention: the values are the first `head_dim_v` columns of the keys."""
    op = "ttnn.transformer.flash_mla_prefill"
    q, k = input_tensor_q, input_tensor_k
    _check_latent(op, q, k, query_heads=q.shape[1])
    if is_causal and attn_mask is not None:
        raise EmulatorError(f"{op}: is_causal and attn_mask exclude each other; pass is_causal=False with a mask")
    plan = make_plan(op, q, scale, is_causal, program_config, compute_kernel_config, k_chunk=32)
    keys, contents = _latent(op, k, head_dim_v)
    mask = None if attn_mask is None else attn_mask.values
    values = device_of(q).engine.attention(q.values, keys, contents, mask, plan)
    return result(values[..., :head_dim_v].contiguous(), q, plan=plan)


@operation(
    "ttnn.transformer.flash_multi_latent_attention_decode",
    accepts="memory_config",
    only={"attn_mask": None, "attention_sink": None, "sliding_window_size": None},
)
def flash_multi_latent_attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor | None = None,
    head_dim_v: int | None = None,
    *,
    is_causal: bool = True,
    cur_pos: Sequence[int] = (),
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """One query per user, [1, B, H, E], against latent caches [B, K, T, E]."""
    op = "ttnn.transformer.flash_multi_latent_attention_decode"
    q, k = input_tensor_q, input_tensor_k
    if input_tensor_v is not None or head_dim_v is None:
        raise EmulatorError(f"{op}: give head_dim_v and no input_tensor_v; the values are emulated as part of the keys")
    _check_latent(op, q, k, query_heads=q.shape[2])
    length = k.shape[2]
    positions = positions_of(op, q.shape[1], length, is_causal, cur_pos, cur_pos_tensor)
    plan = make_plan(
        op, q, scale, is_causal, program_config, compute_kernel_config, k_chunk=largest_chunk(length), prefill=False
    )
    keys, contents = _latent(op, k, head_dim_v)
    values = device_of(q).engine.attention_decode(q.values[0], keys, contents, positions, plan)
    return result(values[None, ..., :head_dim_v].contiguous(), q, plan=plan)
