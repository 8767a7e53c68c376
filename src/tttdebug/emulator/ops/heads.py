# SPDX-License-Identifier: Apache-2.0
"""Splitting a fused projection into heads and joining heads again; copies only."""

from __future__ import annotations

import torch

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import device_of, operation, require_sharded, require_tile, result
from tttdebug.emulator.placement import MemoryConfig, TensorMemoryLayout, one_core_per_head, one_core_per_user
from tttdebug.emulator.tensor import Tensor

# B batch, H query heads, K key/value heads, S positions, E head dim; F = (H + 2K)·E, the fused width


@operation(
    "ttnn.experimental.nlp_create_qkv_heads",
    accepts="memory_config",
    only={"output_tensors": None, "kv_tied": False},
)
def nlp_create_qkv_heads(
    input: Tensor,
    input_kv: Tensor | None = None,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    transpose_k_heads: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """[B, 1, S, F] as q [B, H, S, E] and k, v [B, K, S, E]; k comes as [B, K, E, S] unless told not to transpose it."""
    op = "ttnn.experimental.nlp_create_qkv_heads"
    require_tile(op, input=input, input_kv=input_kv)
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if input_kv is None:
        q, k, v = _split(op, input, num_heads, kv_heads)
    else:
        q = input.values
        k, v = input_kv.values.chunk(2, -1)
    q_BHSE, k_BKSE, v_BKSE = (_to_heads(x, n) for x, n in ((q, num_heads), (k, kv_heads), (v, kv_heads)))
    if transpose_k_heads:
        k_BKSE = k_BKSE.mT.contiguous()
    return result(q_BHSE, input), result(k_BKSE, input), result(v_BKSE, input)


@operation(
    "ttnn.experimental.nlp_create_qkv_heads_decode",
    accepts="overlap_qk_coregrid",
    only={"output_tensors": None, "batch_offset": None, "slice_size": None},
)
def nlp_create_qkv_heads_decode(
    input_tensor: Tensor,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    memory_config: MemoryConfig | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """[1, 1, B, F], a user a row, as q [1, B, H, E] and k, v [1, B, K, E], height-sharded with a core per user."""
    op = "ttnn.experimental.nlp_create_qkv_heads_decode"
    require_tile(op, input_tensor=input_tensor)
    if len(input_tensor.shape) != 4 or input_tensor.shape[0] != 1 or input_tensor.shape[1] != 1:
        raise EmulatorError(f"{op}: input_tensor has {input_tensor.shape}; it must be [1, 1, users, width]")
    if input_tensor.shape[2] > TILE:
        raise EmulatorError(f"{op}: {input_tensor.shape[2]} users; at most {TILE} are supported")
    if memory_config is not None and memory_config.memory_layout is not TensorMemoryLayout.HEIGHT_SHARDED:
        raise EmulatorError(f"{op}: memory_config is {memory_config.memory_layout.name}; it must be HEIGHT_SHARDED")
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    q, k, v = (
        result(fused[0].unflatten(-1, (heads, -1)), input_tensor)
        for fused, heads in zip(
            _split(op, input_tensor, num_heads, kv_heads), (num_heads, kv_heads, kv_heads), strict=True
        )
    )
    for heads in (q, k, v):
        _, users, count, size = heads.shape
        heads.place(one_core_per_user(users, count, size, device_of(input_tensor).grid))
    return q, k, v


@operation("ttnn.experimental.nlp_concat_heads", accepts="memory_config")
def nlp_concat_heads(input_tensor: Tensor) -> Tensor:
    """[B, H, S, E] as [B, 1, S, H·E]."""
    require_tile("ttnn.experimental.nlp_concat_heads", input_tensor=input_tensor)
    joined = input_tensor.values.transpose(1, 2).flatten(2).unsqueeze(1)
    return result(joined, input_tensor)


@operation("ttnn.experimental.nlp_concat_heads_decode", accepts="memory_config output_tensor sub_core_grids")
def nlp_concat_heads_decode(input_tensor: Tensor, *, num_heads: int) -> Tensor:
    """[1, B, H or more, E] as [1, 1, B padded to 32 with zeros, H·E], the first `num_heads` heads."""
    op = "ttnn.experimental.nlp_concat_heads_decode"
    require_tile(op, input_tensor=input_tensor)
    if len(input_tensor.shape) != 4 or input_tensor.shape[0] != 1 or input_tensor.shape[2] < num_heads:
        raise EmulatorError(
            f"{op}: input_tensor has {input_tensor.shape}; it must be [1, users, {num_heads}, head size]"
        )
    require_sharded(op, input_tensor=input_tensor)
    joined_BF = input_tensor.values[0, :, :num_heads].flatten(1)
    padded = torch.nn.functional.pad(joined_BF, (0, 0, 0, max(0, TILE - joined_BF.shape[0])))
    placed = one_core_per_head(num_heads, padded.shape[0], input_tensor.shape[-1], device_of(input_tensor).grid)
    return Tensor(padded[None, None], input_tensor.dtype, input_tensor.layout, input_tensor.device(), placed)


@operation(
    "ttnn.transformer.split_query_key_value_and_split_heads",
    accepts="memory_config",
    only={"use_falcon7b_backend": False},
)
def split_query_key_value_and_split_heads(
    input_tensor: Tensor,
    kv_input_tensor: Tensor | None = None,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    transpose_key: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """[B, S, F] as q [B, H, S, E] and k, v [B, K, S, E]; k comes as [B, K, E, S] unless told not to transpose it."""
    op = "ttnn.transformer.split_query_key_value_and_split_heads"
    require_tile(op, input_tensor=input_tensor, kv_input_tensor=kv_input_tensor)
    if len(input_tensor.shape) != 3:
        raise EmulatorError(f"{op}: input_tensor has {input_tensor.shape}; it must be [batch, sequence, width]")
    fused = input_tensor
    if kv_input_tensor is not None:
        fused = result(torch.cat([input_tensor.values, kv_input_tensor.values], -1), input_tensor)
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    q_BHSE, k_BKSE, v_BKSE = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2).contiguous()
        for part, heads in zip(_split(op, fused, num_heads, kv_heads), (num_heads, kv_heads, kv_heads), strict=True)
    )
    if transpose_key:
        k_BKSE = k_BKSE.mT.contiguous()
    return result(q_BHSE, input_tensor), result(k_BKSE, input_tensor), result(v_BKSE, input_tensor)


@operation("ttnn.transformer.concatenate_heads", accepts="memory_config")
def concatenate_heads(input_tensor: Tensor) -> Tensor:
    """[B, H, S, E] as [B, S, H·E]."""
    op = "ttnn.transformer.concatenate_heads"
    require_tile(op, input_tensor=input_tensor)
    if len(input_tensor.shape) != 4:
        raise EmulatorError(f"{op}: input_tensor has {input_tensor.shape}; it must be [batch, heads, sequence, size]")
    return result(input_tensor.values.transpose(1, 2).flatten(2), input_tensor)


@operation("ttnn.experimental.nlp_create_qkv_heads_vit", accepts="memory_config", only={"output_tensors": None})
def nlp_create_qkv_heads_vit(input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, 1, S, 2304] as q, k and v [B, 12, S, 64]."""
    op = "ttnn.experimental.nlp_create_qkv_heads_vit"
    require_tile(op, input=input)
    if input.shape[-1] != 3 * 12 * 64:
        raise EmulatorError(f"{op}: input has {input.shape}; this kernel takes 12 heads of 64, a width of 2304")
    q, k, v = (result(_to_heads(part, 12), input) for part in _split(op, input, 12, 12))
    return q, k, v


def _split(op: str, fused: Tensor, heads: int, kv_heads: int) -> tuple[torch.Tensor, ...]:
    width, parts = fused.shape[-1], heads + 2 * kv_heads
    if width % parts:
        raise EmulatorError(
            f"{op}: width {width} does not divide into {heads} query heads and twice {kv_heads} key/value heads"
        )
    size = width // parts
    return fused.values.split([heads * size, kv_heads * size, kv_heads * size], -1)


def _to_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, 1, S, H·E] as [B, H, S, E]."""
    return x.squeeze(1).unflatten(-1, (heads, -1)).transpose(1, 2).contiguous()
