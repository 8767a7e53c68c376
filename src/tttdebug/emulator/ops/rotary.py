# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding in both layouts: adjacent pairs (Meta) and halves (Hugging Face)."""

from __future__ import annotations

import torch

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import ROTARY_EMBEDDING, WormholeComputeKernelConfig, resolve_kernel
from tttdebug.emulator.operation import device_of, operation, require_float, require_sharded, require_tile, result
from tttdebug.emulator.plans import RotaryPlan
from tttdebug.emulator.tensor import Tensor

# B batch, H heads, S positions, E head dim


@operation("ttnn.experimental.rotary_embedding_llama", accepts="memory_config")
def rotary_embedding_llama(
    input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    trans_mat: Tensor,
    *,
    is_decode_mode: bool = False,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """x·cos + (x·trans_mat)·sin, `trans_mat` swapping and negating within pairs.

    Prefill: x [1, H, S, E], cos and sin [1, 1 or H, S or more, E]. Decode: x [1, B, H, E], cos and sin [1, B, 1, E] (or
    padded to 32 rows), `trans_mat` once per core.
    """
    op = "ttnn.experimental.rotary_embedding_llama"
    require_tile(op, input_tensor=input_tensor, cos_cache=cos_cache, sin_cache=sin_cache, trans_mat=trans_mat)
    if is_decode_mode:
        require_sharded(op, input_tensor=input_tensor, cos_cache=cos_cache, sin_cache=sin_cache, trans_mat=trans_mat)
    cos, sin = _tables(op, input_tensor, cos_cache, sin_cache, is_decode_mode)
    if trans_mat.shape[-1] != TILE or trans_mat.shape[-2] % TILE or input_tensor.shape[-1] % TILE:
        raise EmulatorError(
            f"{op}: trans_mat has {trans_mat.shape} and x {input_tensor.shape}; trans_mat must be "
            f"[1, 1, {TILE}·n, {TILE}] and the head size a multiple of {TILE}"
        )
    transform = trans_mat.values.reshape(-1, TILE)[:TILE]
    plan = _plan(op, input_tensor, compute_kernel_config)
    values = device_of(input_tensor).engine.rotate_pairs(input_tensor.values, cos, sin, transform, plan)
    return result(values, input_tensor, plan=plan)


@operation("ttnn.experimental.rotary_embedding", accepts="memory_config")
def rotary_embedding(
    input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    token_index: int | None = None,
    *,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """x·cos + [−x₂, x₁]·sin with the halves x₁, x₂ of the last dimension; `token_index` picks one row of the tables."""
    op = "ttnn.experimental.rotary_embedding"
    require_tile(op, input_tensor=input_tensor, cos_cache=cos_cache, sin_cache=sin_cache)
    if token_index is None:
        cos, sin = _tables(op, input_tensor, cos_cache, sin_cache, False)
    else:
        if not 0 <= token_index < cos_cache.shape[-2]:
            raise EmulatorError(f"{op}: token_index={token_index}, the tables have {cos_cache.shape[-2]} rows")
        cos, sin = (t.values[..., token_index : token_index + 1, :] for t in (cos_cache, sin_cache))
    plan = _plan(op, input_tensor, compute_kernel_config)
    values = device_of(input_tensor).engine.rotate_halves(input_tensor.values, cos, sin, plan)
    return result(values, input_tensor, plan=plan)


@operation("ttnn.experimental.rotary_embedding_hf", accepts="memory_config")
def rotary_embedding_hf(
    input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    is_decode_mode: bool = False,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """x·cos + [−x₂, x₁]·sin with the halves of the last dimension; in decode a row of the tables per user."""
    op = "ttnn.experimental.rotary_embedding_hf"
    require_tile(op, input_tensor=input_tensor, cos_cache=cos_cache, sin_cache=sin_cache)
    cos, sin = _tables(op, input_tensor, cos_cache, sin_cache, is_decode_mode)
    plan = _plan(op, input_tensor, compute_kernel_config)
    values = device_of(input_tensor).engine.rotate_halves(input_tensor.values, cos, sin, plan)
    return result(values, input_tensor, plan=plan)


@operation("ttnn.experimental.rotary_embedding_llama_fused_qk")
def rotary_embedding_llama_fused_qk(
    q_input_tensor: Tensor,
    k_input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    trans_mat: Tensor,
    *,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode's rotary_embedding_llama of q and k at once; the tables hold the users of q, then those of k."""
    op = "ttnn.experimental.rotary_embedding_llama_fused_qk"
    users = q_input_tensor.shape[1]
    if cos_cache.shape[1] < users + k_input_tensor.shape[1]:
        raise EmulatorError(
            f"{op}: cos_cache has rows for {cos_cache.shape[1]} users; q has {users}, k {k_input_tensor.shape[1]}"
        )
    rotated = []
    for x, first in ((q_input_tensor, 0), (k_input_tensor, users)):
        cos, sin = (result(t.values[:, first : first + x.shape[1]], t) for t in (cos_cache, sin_cache))
        for table in (cos, sin):
            table.place(x.memory_config())
        rotated.append(
            rotary_embedding_llama(
                x, cos, sin, trans_mat, is_decode_mode=True, compute_kernel_config=compute_kernel_config
            )
        )
    return rotated[0], rotated[1]


def _tables(op: str, x: Tensor, cos: Tensor, sin: Tensor, decode: bool) -> tuple[torch.Tensor, torch.Tensor]:
    require_float(op, input_tensor=x, cos_cache=cos, sin_cache=sin)
    if cos.shape != sin.shape or cos.shape[-1] != x.shape[-1]:
        raise EmulatorError(f"{op}: x {x.shape}, cos {cos.shape}, sin {sin.shape}: the last sizes must be equal")
    if decode:
        if cos.shape[1] < x.shape[1]:
            raise EmulatorError(f"{op}: cos_cache has rows for {cos.shape[1]} users, x has {x.shape[1]}")
        return cos.values[:, : x.shape[1], :1], sin.values[:, : x.shape[1], :1]
    if cos.shape[-2] < x.shape[-2]:
        raise EmulatorError(f"{op}: cos_cache has {cos.shape[-2]} positions, x has {x.shape[-2]}")
    return cos.values[..., : x.shape[-2], :], sin.values[..., : x.shape[-2], :]


def _plan(op: str, x: Tensor, config: WormholeComputeKernelConfig | None) -> RotaryPlan:
    return RotaryPlan(resolve_kernel(op, config, ROTARY_EMBEDDING), x.dtype.format)
