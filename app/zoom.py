# SPDX-License-Identifier: Apache-2.0
"""Where in a tensor the reader looks: all of it, one 32 × 32 tile, or one of the tile's 16 × 16 faces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from address import Address
from tensor_map import FACE, TILE

SIZES = {"tile": TILE, "face": FACE}
_ELEMENT = re.compile(r"(\d{1,12}),(\d{1,12})")


@dataclass(frozen=True)
class Zoom:
    """The tile or face (`level`) around the element at `row`, `channel` of a tensor of `rows` × `channels`."""

    level: str
    row: int
    channel: int
    rows: int
    channels: int

    @property
    def row_part(self) -> slice:
        return self._part(self.row, self.rows)

    @property
    def channel_part(self) -> slice:
        return self._part(self.channel, self.channels)

    def _part(self, place: int, end: int) -> slice:
        size = SIZES[self.level]
        first = place // size * size
        return slice(first, min(first + size, end))

    def next_to(self, rows: int, channels: int) -> tuple[int, int] | None:
        """The element as many tiles or faces further on; None where the tensor has none."""
        size = SIZES[self.level]
        row = self.row_part.start + rows * size
        channel = self.channel_part.start + channels * size
        return (row, channel) if 0 <= row < self.rows and 0 <= channel < self.channels else None


def zoom_of(address: Address, rows: int, channels: int) -> Zoom | None:
    """What the address asks for; None for the whole tensor, and where that lies outside of it."""
    found = _ELEMENT.fullmatch(address.element or "")
    if found is None:
        return None
    row, channel = map(int, found.groups())
    if row >= rows or channel >= channels:
        return None
    return Zoom(address.zoom if address.zoom in SIZES else "tile", row, channel, rows, channels)


def parts_of_zoom(row: int, channel: int, level: str) -> dict[str, object]:
    """The parts of an address that lead there."""
    return {"element": f"{row},{channel}", "zoom": level}


WHOLE: dict[str, object] = {"element": None, "zoom": None}


def row_and_channel(index: Sequence[int], shape: Sequence[int]) -> tuple[int, int]:
    """An element's row, of all leading dims folded into one, and its channel."""
    row = 0
    for place, size in zip(index[:-1], shape[:-1], strict=True):
        row = row * size + place
    return row, index[-1] if index else 0
