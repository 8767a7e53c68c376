# SPDX-License-Identifier: Apache-2.0
"""Scaled dot-product attention: prefill, decode and decode from a paged cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import SCALED_DOT_PRODUCT_ATTENTION, WormholeComputeKernelConfig, resolve_kernel
from tttdebug.emulator.operation import device_of, operation, require_float, require_tile, result
from tttdebug.emulator.placement import CoreCoord
from tttdebug.emulator.plans import AttentionPlan
from tttdebug.emulator.programs import SDPAProgramConfig
from tttdebug.emulator.tensor import Tensor

# B batch, H query heads, K key/value heads, S query positions, T key positions, E head dim

_NO_SINK: dict[str, object] = {"attention_sink": None}


@operation(
    "ttnn.transformer.scaled_dot_product_attention",
    accepts="memory_config",
    only={
        **_NO_SINK,
        "cu_window_seqlens": None,
        "windowed_q_token_offset": 0,
        "windowed_q_token_offset_tensor": None,
        "output_concat_heads": False,
        "attn_mask_block_map": None,
    },
)
def scaled_dot_product_attention(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """softmax(q·kᵀ·scale + mask)·v for q [B, H, S, E] and k, v [B, K, T, E]; query heads share key/value heads."""
    op = "ttnn.transformer.scaled_dot_product_attention"
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    check_heads(op, q, k, v, query_heads=q.shape[1])
    if is_causal and attn_mask is not None:
        raise EmulatorError(f"{op}: is_causal and attn_mask exclude each other; pass is_causal=False with a mask")
    if is_causal and q.shape[2] != k.shape[2]:
        raise EmulatorError(f"{op}: is_causal needs as many queries as keys, got {q.shape[2]} and {k.shape[2]}")
    plan = make_plan(op, q, scale, is_causal, program_config, compute_kernel_config, k_chunk=32)
    plan = replace(plan, window=_window(op, sliding_window_size, is_causal))
    mask = None if attn_mask is None else attn_mask.values
    values = device_of(q).engine.attention(q.values, k.values, v.values, mask, plan)
    return result(values, q, plan=plan)


@operation(
    "ttnn.transformer.scaled_dot_product_attention_decode",
    accepts="memory_config",
    only={**_NO_SINK, "attn_mask": None, "share_cache": False},
)
def scaled_dot_product_attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    *,
    is_causal: bool = True,
    cur_pos: Sequence[int] = (),
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """One query per user, [1, B, H, E], against caches [B, K, T, E], keys up to each user's position."""
    op = "ttnn.transformer.scaled_dot_product_attention_decode"
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    check_heads(op, q, k, v, query_heads=q.shape[2])
    users, length = q.shape[1], k.shape[2]
    positions = positions_of(op, users, length, is_causal, cur_pos, cur_pos_tensor)
    plan = make_plan(
        op, q, scale, is_causal, program_config, compute_kernel_config, k_chunk=largest_chunk(length), prefill=False
    )
    cores = _cores_per_head(q, users * k.shape[1], program_config)
    plan = replace(plan, window=_window(op, sliding_window_size, is_causal), cores_per_head=cores)
    return _decode(q, k.values, v.values, positions, plan)


@operation(
    "ttnn.transformer.paged_scaled_dot_product_attention_decode",
    accepts="memory_config",
    only={
        **_NO_SINK,
        "sliding_window_size": None,
        "attn_mask": None,
        "paged_cache_geometry": None,
        "cache_position_modulo": None,
        "spec_multi_pos_tiles": 1,
    },
)
def paged_scaled_dot_product_attention_decode(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    page_table_tensor: Tensor,
    *,
    is_causal: bool = True,
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """Decode attention whose caches [pages, K, page length, E] are found through a page table [B, pages per user]."""
    op = "ttnn.transformer.paged_scaled_dot_product_attention_decode"
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    check_heads(op, q, k, v, query_heads=q.shape[2])
    users, pages = q.shape[1], page_table_tensor.values[: q.shape[1]].long()
    length = pages.shape[1] * k.shape[2]
    positions = positions_of(op, users, length, is_causal, (), cur_pos_tensor)
    plan = make_plan(op, q, scale, is_causal, program_config, compute_kernel_config, k_chunk=32, prefill=False)
    plan = replace(plan, cores_per_head=_cores_per_head(q, users * k.shape[1], program_config))
    return _decode(q, gather_pages(k.values, pages), gather_pages(v.values, pages), positions, plan)


def _decode(q: Tensor, k_BKTE: torch.Tensor, v_BKTE: torch.Tensor, positions: list[int], plan: AttentionPlan) -> Tensor:
    out_BHE = device_of(q).engine.attention_decode(q.values[0], k_BKTE, v_BKTE, positions, plan)
    return Tensor(out_BHE[None], q.dtype, q.layout, q.device(), plan=plan)  # interleaved in DRAM, wherever q lies


def gather_pages(cache: torch.Tensor, pages: torch.Tensor) -> torch.Tensor:
    """Caches [pages, K, page length, E] in the order of a page table [B, P], as [B, K, P · page length, E]."""
    return cache[pages.clamp(min=0)].transpose(1, 2).flatten(2, 3)


def make_plan(
    op: str,
    q: Tensor,
    scale: float | None,
    is_causal: bool,
    program: SDPAProgramConfig | None,
    config: WormholeComputeKernelConfig | None,
    *,
    k_chunk: int,
    prefill: bool = True,
) -> AttentionPlan:
    if program is not None and not isinstance(program, SDPAProgramConfig):
        raise EmulatorError(f"{op}: program_config={program!r} is not an SDPAProgramConfig")
    kernel = resolve_kernel(op, config, SCALED_DOT_PRODUCT_ATTENTION)
    return AttentionPlan(
        kernel,
        q.shape[-1] ** -0.5 if scale is None else scale,
        is_causal,
        program.q_chunk_size if program else 32,
        program.k_chunk_size or k_chunk if program else k_chunk,
        program is None or program.exp_approx_mode is not False,
        q.dtype.format,
        prefill,
    )


def _cores_per_head(q: Tensor, heads: int, program: SDPAProgramConfig | None) -> int:
    """How many cores share the keys of one of `heads` key/value heads of all users."""
    grid = device_of(q).grid if program is None else program.compute_with_storage_grid_size
    x, y = (grid.x, grid.y) if isinstance(grid, CoreCoord) else grid
    most = 16 if program is None else program.max_cores_per_head_batch
    return max(1, min(x * y // heads, most))


def _window(op: str, size: int | None, is_causal: bool) -> int | None:
    if size is not None and (not is_causal or size < 1):
        raise EmulatorError(f"{op}: sliding_window_size={size} is emulated with is_causal=True and from 1 on")
    return size


def positions_of(
    op: str, users: int, length: int, is_causal: bool, cur_pos: Sequence[int], cur_pos_tensor: Tensor | None
) -> list[int]:
    if not is_causal:
        return [length - 1] * users
    if cur_pos_tensor is not None:
        positions = [int(p) for p in cur_pos_tensor.values.reshape(-1)]
    else:
        positions = [int(p) for p in cur_pos]
    if len(positions) < users:
        raise EmulatorError(f"{op}: {len(positions)} positions for {users} users; give cur_pos or cur_pos_tensor")
    for user, position in enumerate(positions[:users]):
        if not -1 <= position < length:
            raise EmulatorError(f"{op}: user {user} is at position {position}, the cache holds {length}")
    return positions[:users]


def check_heads(op: str, q: Tensor, k: Tensor, v: Tensor, *, query_heads: int) -> None:
    require_tile(op, input_tensor_k=k, input_tensor_v=v)
    require_float(op, input_tensor_q=q, input_tensor_k=k, input_tensor_v=v)
    for argument, tensor in (("input_tensor_q", q), ("input_tensor_k", k), ("input_tensor_v", v)):
        if len(tensor.shape) != 4:
            raise EmulatorError(f"{op}: {argument} has {tensor.shape}; four dimensions are needed")
    if k.shape != v.shape or q.shape[-1] != k.shape[-1] or query_heads % k.shape[1]:
        raise EmulatorError(
            f"{op}: q {q.shape}, k {k.shape}, v {v.shape}: k and v must agree, head sizes be equal and the "
            f"{query_heads} query heads divide by the {k.shape[1]} key/value heads"
        )


def largest_chunk(length: int) -> int:
    """The largest power of two up to 512 that divides the cache's length."""
    return min(length & -length, 512)
