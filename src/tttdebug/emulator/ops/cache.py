# SPDX-License-Identifier: Apache-2.0
"""Key/value caches, written in place through the packer: contiguous per user, and paged."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import device_of, operation, require_sharded
from tttdebug.emulator.tensor import Tensor

# B users, K key/value heads, S positions written, T positions held, E head dim


@operation("ttnn.fill_cache")
def fill_cache(cache_tensor: Tensor, input_tensor: Tensor, batch_idx: int, *, update_idx: int = 0) -> Tensor:
    """Writes [1, K, S, E] into positions update_idx… of user `batch_idx` of a cache [B, K, T, E]; gives the cache."""
    op = "ttnn.fill_cache"
    _check(op, cache_tensor, input_tensor)
    _check_index(op, "batch_idx", batch_idx, cache_tensor.shape[0])
    end = update_idx + input_tensor.shape[2]
    if input_tensor.shape[1] != cache_tensor.shape[1] or end > cache_tensor.shape[2]:
        raise EmulatorError(f"{op}: {input_tensor.shape} at position {update_idx} does not fit {cache_tensor.shape}")
    cache_tensor.data[batch_idx, :, update_idx:end] = _copied(op, input_tensor, cache_tensor)[0]
    return cache_tensor


@operation("ttnn.update_cache", accepts="compute_kernel_config")
def update_cache(cache: Tensor, input: Tensor, update_idx: int, *, batch_offset: int = 0) -> Tensor:
    """Writes one position for every user: input [1, K, B or more, E] into a cache [B, K, T, E]; gives the cache."""
    op = "ttnn.update_cache"
    _check(op, cache, input)
    _check_index(op, "update_idx", update_idx, cache.shape[2])
    users, heads = cache.shape[0], cache.shape[1]
    if input.shape[1] != heads or input.shape[2] < batch_offset + users:
        raise EmulatorError(f"{op}: input {input.shape} has not [1, {heads}, {users} users after {batch_offset}, …]")
    rows_1KBE = _packed(input, cache)[:, :, batch_offset : batch_offset + users]
    cache.data[:, :, update_idx] = rows_1KBE[0].transpose(0, 1)
    return cache


@operation("ttnn.kv_cache.fill_cache_for_user_")
def fill_cache_for_user_(cache: Tensor, input: Tensor, batch_index: int, *, update_idx: int = 0) -> Tensor:
    """ttnn.kv_cache's name of fill_cache."""
    return fill_cache(cache, input, batch_index, update_idx=update_idx)


@operation("ttnn.kv_cache.update_cache_for_token_")
def update_cache_for_token_(
    cache: Tensor, input: Tensor, update_index: int, batch_offset: int = 0, compute_kernel_config: object | None = None
) -> Tensor:
    """ttnn.kv_cache's name of update_cache."""
    return update_cache(cache, input, update_index, batch_offset=batch_offset)


@operation(
    "ttnn.experimental.paged_update_cache",
    accepts="compute_kernel_config",
    only={
        "share_cache": False,
        "batch_offset": 0,
        "mesh_coords": None,
        "block_size": None,
        "num_kv_heads": None,
        "cache_position_modulo": None,
    },
)
def paged_update_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    page_table: Tensor | None = None,
) -> Tensor:
    """Writes one position per user: input [1, B, K or more, E], each user at its own index; −1 skips a user.

    The cache is [B, K, T, E], or with a page table [B, P] pages of [K, page length, E]. Gives the cache.
    """
    op = "ttnn.experimental.paged_update_cache"
    _check(op, cache_tensor, input_tensor)
    require_sharded(op, input_tensor=input_tensor)
    heads, users = cache_tensor.shape[1], input_tensor.shape[1]
    if update_idxs_tensor is not None:
        indices = [int(i) for i in update_idxs_tensor.values.reshape(-1)]
    else:
        indices = [int(i) for i in update_idxs]
    if len(indices) < users or input_tensor.shape[2] < heads:
        raise EmulatorError(
            f"{op}: input {input_tensor.shape} and {len(indices)} indices for a cache {cache_tensor.shape}; "
            "an index per user and every head are needed"
        )
    rows_BKE = _packed(input_tensor, cache_tensor)[0, :, :heads]
    for user, index in enumerate(indices[:users]):
        if index < 0:
            continue
        page, offset = _locate(op, cache_tensor, page_table, user, index)
        cache_tensor.data[page, :, offset] = rows_BKE[user]
    return cache_tensor


@operation(
    "ttnn.experimental.paged_fused_update_cache",
    accepts="compute_kernel_config",
    only={"share_cache": False, "batch_offset": 0, "mesh_coords": None},
)
def paged_fused_update_cache(
    cache_tensor1: Tensor,
    input_tensor1: Tensor,
    cache_tensor2: Tensor,
    input_tensor2: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    page_table: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """paged_update_cache of keys and values at once; gives both caches."""
    caches = [
        paged_update_cache(
            cache, rows, update_idxs=update_idxs, update_idxs_tensor=update_idxs_tensor, page_table=page_table
        )
        for cache, rows in ((cache_tensor1, input_tensor1), (cache_tensor2, input_tensor2))
    ]
    return caches[0], caches[1]


@operation(
    "ttnn.experimental.paged_fill_cache",
    accepts="compute_kernel_config",
    only={"mesh_coords": None, "block_size": None, "cache_position_modulo": None, "valid_seq_len_tensor": None},
)
def paged_fill_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    page_table: Tensor,
    *,
    batch_idx_tensor: Tensor | None = None,
    batch_idx: int = 0,
) -> Tensor:
    """Writes [1, K, S, E] into the pages of user `batch_idx` from its first position on; gives the cache."""
    op = "ttnn.experimental.paged_fill_cache"
    _check(op, cache_tensor, input_tensor)
    user = int(batch_idx_tensor.values.reshape(-1)[0]) if batch_idx_tensor is not None else batch_idx
    _check_index(op, "batch_idx", user, page_table.shape[0])
    rows, length = _copied(op, input_tensor, cache_tensor)[0], cache_tensor.shape[2]
    if rows.shape[1] > page_table.shape[1] * length:
        raise EmulatorError(f"{op}: {rows.shape[1]} positions need more pages than page_table {page_table.shape} has")
    for start in range(0, rows.shape[1], length):
        written = rows[:, start : start + length]
        page, _ = _locate(op, cache_tensor, page_table, user, start)
        cache_tensor.data[page, :, : written.shape[1]] = written
    return cache_tensor


def _locate(op: str, cache: Tensor, page_table: Tensor | None, user: int, index: int) -> tuple[int, int]:
    """Where position `index` of a user lies: (page, offset), or (user, index) without pages."""
    if page_table is None:
        _check_index(op, f"index of user {user}", index, cache.shape[2])
        return user, index
    length = cache.shape[2]
    _check_index(op, f"index of user {user}", index, page_table.shape[1] * length)
    page = int(page_table.values[user, index // length])
    _check_index(op, f"page of user {user}", page, cache.shape[0])
    return page, index % length


def _copied(op: str, source: Tensor, cache: Tensor) -> torch.Tensor:
    """What a fill writes: it moves whole tiles, so the data types must agree."""
    if source.dtype is not cache.dtype:
        raise EmulatorError(f"{op}: input is {source.dtype}, the cache {cache.dtype}; typecast the input first")
    return source.values


def _packed(source: Tensor, cache: Tensor) -> torch.Tensor:
    """What an update writes: it goes through the packer."""
    return device_of(cache).engine.repack(source.values, cache.dtype.format)


def _check(op: str, cache: Tensor, source: Tensor) -> None:
    if len(cache.shape) != 4 or len(source.shape) != 4 or cache.shape[-1] != source.shape[-1]:
        raise EmulatorError(f"{op}: cache {cache.shape} and input {source.shape} must have four sizes, the last equal")


def _check_index(op: str, name: str, index: int, size: int) -> None:
    if not 0 <= index < size:
        raise EmulatorError(f"{op}: {name} is {index}, it must be from 0 to {size - 1}")
