# SPDX-License-Identifier: Apache-2.0
"""What ttnn's ops on key/value caches should compute, in plain torch: filling and updating, whole or in pages.

Arguments and outputs are as in `op_goldens`. K key/value heads, S positions, E head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tttdebug.tracking.op_goldens import Golden, NoGoldenError
from tttdebug.tracking.op_goldens_attention import positions_of


def fill_cache(cache_tensor: Tensor, input_tensor: Tensor, batch_idx: int, *, update_idx: int = 0, **_: Any) -> Tensor:
    cache = cache_tensor.clone()
    cache[batch_idx, :, update_idx : update_idx + input_tensor.shape[2]] = input_tensor[0]
    return cache


def fill_cache_for_user(cache: Tensor, input: Tensor, batch_index: int, *, update_idx: int = 0, **_: Any) -> Tensor:
    return fill_cache(cache, input, batch_index, update_idx=update_idx)


def update_cache(cache: Tensor, input: Tensor, update_idx: int, *, batch_offset: int = 0, **_: Any) -> Tensor:
    updated, users = cache.clone(), cache.shape[0]
    updated[:, :, update_idx] = input[0, :, batch_offset : batch_offset + users].transpose(0, 1)
    return updated


def update_cache_for_token(cache: Tensor, input: Tensor, update_index: int, batch_offset: int = 0, **_: Any) -> Tensor:
    return update_cache(cache, input, update_index, batch_offset=batch_offset)


def paged_update_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    page_table: Tensor | None = None,
    **further: Any,
) -> Tensor:
    _refuse_cache(further)
    cache, heads = cache_tensor.clone(), cache_tensor.shape[1]
    for user, index in enumerate(positions_of(update_idxs, update_idxs_tensor)[: input_tensor.shape[1]]):
        if index >= 0:
            page, offset = _place(cache, page_table, user, index)
            cache[page, :, offset] = input_tensor[0, user, :heads]
    return cache


def paged_fused_update_cache(
    cache_tensor1: Tensor,
    input_tensor1: Tensor,
    cache_tensor2: Tensor,
    input_tensor2: Tensor,
    **further: Any,
) -> tuple[Tensor, Tensor]:
    return (
        paged_update_cache(cache_tensor1, input_tensor1, **further),
        paged_update_cache(cache_tensor2, input_tensor2, **further),
    )


def paged_fill_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    page_table: Tensor,
    *,
    batch_idx_tensor: Tensor | None = None,
    batch_idx: int = 0,
    **further: Any,
) -> Tensor:
    _refuse_cache(further)
    user = int(batch_idx_tensor.flatten()[0]) if batch_idx_tensor is not None else batch_idx
    cache, rows_KSE, length = cache_tensor.clone(), input_tensor[0], cache_tensor.shape[2]
    for start in range(0, rows_KSE.shape[1], length):
        written = rows_KSE[:, start : start + length]
        cache[int(page_table[user, start // length]), :, : written.shape[1]] = written
    return cache


def _place(cache: Tensor, page_table: Tensor | None, user: int, index: int) -> tuple[int, int]:
    if page_table is None:
        return user, index
    length = cache.shape[2]
    return int(page_table[user, index // length]), index % length


def _refuse_cache(further: dict[str, Any]) -> None:
    if asked := [name for name in ("cache_position_modulo", "valid_seq_len_tensor") if further.get(name) is not None]:
        raise NoGoldenError(f"a cache with {', '.join(asked)}")
    if further.get("share_cache"):
        raise NoGoldenError("a cache that users share")


CACHES: dict[str, Golden] = {
    "ttnn.fill_cache": fill_cache,
    "ttnn.update_cache": update_cache,
    "ttnn.kv_cache.fill_cache_for_user_": fill_cache_for_user,
    "ttnn.kv_cache.update_cache_for_token_": update_cache_for_token,
    "ttnn.experimental.paged_update_cache": paged_update_cache,
    "ttnn.experimental.paged_fused_update_cache": paged_fused_update_cache,
    "ttnn.experimental.paged_fill_cache": paged_fill_cache,
}
