# SPDX-License-Identifier: Apache-2.0
"""The key and value cache of one attention module.

B users, K key/value heads, L cache length, E head dimension.
"""

from __future__ import annotations

from typing import Any

from tttdebug.modules.positions import whole_tiles


class KVCache:
    """Keys and values [B, K, L, E] on the device, keys in the rotary order of the module that writes them."""

    def __init__(self, ttnn: Any, device: Any, dtype: str, users: int, heads: int, length: int, head_dim: int) -> None:
        shape = (users, heads, whole_tiles(length), head_dim)
        self.ttnn = ttnn
        self.dtype = getattr(ttnn, dtype)
        self.keys = ttnn.zeros(shape, dtype=self.dtype, layout=ttnn.TILE_LAYOUT, device=device)
        self.values = ttnn.zeros(shape, dtype=self.dtype, layout=ttnn.TILE_LAYOUT, device=device)

    def fill(self, keys_1KSE: Any, values_1KSE: Any, user: int) -> None:
        """Write a prompt's keys and values from position 0 on."""
        for cache, fresh in ((self.keys, keys_1KSE), (self.values, values_1KSE)):
            packed = self.ttnn.typecast(fresh, dtype=self.dtype)
            self.ttnn.fill_cache(cache, packed, user)

    def update(self, keys_1BKE: Any, values_1BKE: Any, positions_B: Any) -> None:
        """Write one token's key and value of each user at that user's position."""
        for cache, fresh in ((self.keys, keys_1BKE), (self.values, values_1BKE)):
            self.ttnn.experimental.paged_update_cache(cache, fresh, update_idxs_tensor=positions_B)
