# SPDX-License-Identifier: Apache-2.0
"""Where the tokens of one call stand, and the tables and masks that follow: made once, shared by all layers.

S sequence, B users, T cache length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from tttdebug.backends import namespace_of

if TYPE_CHECKING:
    import torch

    from tttdebug.modules.rotary_embedding import RotaryEmbedding

TILE = 32
MAX_USERS = TILE  # a decode step is one tile, a row a user
HIDDEN = -1e9  # added to a score that must not count; finite, so that no engine meets inf − inf


def whole_tiles(size: int) -> int:
    """A size rounded up to whole tiles, which is what the device keeps of it."""
    return -(-size // TILE) * TILE


class PromptPositions:
    """Positions 0 to `length` − 1 of one sequence, padded to whole tiles: a prefill, or a call of an encoder."""

    def __init__(self, device: Any, length: int) -> None:
        self.length = length
        self.padded_length = whole_tiles(length)
        self._device, self._ttnn = device, namespace_of(device)
        self._made: dict[Hashable, Any] = {}

    def ids(self, rows: int) -> Any:
        """Positions [1, S] as ids into a table of that many rows; padding beyond the table reads its last row."""
        import torch

        return self._once(("ids", rows), lambda: self._ids(torch.arange(self.padded_length).clamp(max=rows - 1)))

    def tables(self, rotary: RotaryEmbedding) -> tuple[Any, Any]:
        """cos and sin of these positions."""
        return self._once(rotary, lambda: rotary.prefill_tables(0, self.padded_length))

    def causal_mask(self, window: int | None) -> Any:
        """[1, 1, S, S], added to scores: a query sees itself and what is before it, within the window."""
        import torch

        def make() -> Any:
            seen = torch.ones(self.padded_length, self.padded_length, dtype=torch.bool).tril()
            return self._mask(seen if window is None else seen.triu(1 - window))

        return self._once(("causal", window), make)

    def padding_mask(self) -> Any:
        """[1, 1, S, S], added to scores: every query sees every position but the padding. None where there is none."""
        import torch

        if self.length == self.padded_length:
            return None
        return self._once(
            "padding",
            lambda: self._mask((torch.arange(self.padded_length) < self.length).expand(self.padded_length, -1)),
        )

    def _ids(self, ids_S: torch.Tensor) -> Any:
        return ids_on_device(self._ttnn, self._device, ids_S[None])

    def _mask(self, seen_SS: torch.Tensor) -> Any:
        return mask_on_device(self._ttnn, self._device, seen_SS[None, None])

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


class StepPositions:
    """The position of each of B users in one decode step."""

    def __init__(self, device: Any, positions_B: torch.Tensor) -> None:
        import torch

        self._device, self._ttnn = device, namespace_of(device)
        self._positions_B = positions_B
        self.users = len(positions_B)
        self.on_device = self._ttnn.from_torch(positions_B.to(torch.int32), dtype=self._ttnn.int32, device=device)
        self._made: dict[Hashable, Any] = {}

    def ids(self, rows: int) -> Any:
        """Positions [1, 32] as ids into a table of that many rows; rows beyond the users are padding."""
        import torch

        padded = torch.nn.functional.pad(self._positions_B.clamp(max=rows - 1), (0, MAX_USERS - self.users))
        return self._once(("ids", rows), lambda: ids_on_device(self._ttnn, self._device, padded[None]))

    def tables(self, rotary: RotaryEmbedding) -> tuple[Any, Any]:
        """cos and sin of these positions, a user a core."""
        return self._once(rotary, lambda: rotary.decode_tables(self._positions_B))

    def causal_mask(self, length: int, window: int | None) -> Any:
        """[B, 1, 1, T], added to scores against a cache of that length."""
        import torch

        def make() -> Any:
            keys_T, own_B1 = torch.arange(length), self._positions_B[:, None]
            seen_BT = keys_T <= own_B1
            if window is not None:
                seen_BT &= keys_T > own_B1 - window
            return mask_on_device(self._ttnn, self._device, seen_BT[:, None, None])

        return self._once(("causal", length, window), make)

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def ids_on_device(ttnn: Any, device: Any, ids: torch.Tensor) -> Any:
    """Integer ids as lookups want them: uint32 in rows."""
    import torch

    return ttnn.from_torch(ids.to(torch.int32), dtype=ttnn.uint32, layout=ttnn.ROW_MAJOR_LAYOUT, device=device)


def mask_on_device(ttnn: Any, device: Any, seen: torch.Tensor) -> Any:
    """What is added to scores: 0 where something is seen."""
    import torch

    mask = torch.zeros(seen.shape).masked_fill(~seen, HIDDEN)
    return ttnn.from_torch(mask, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
