# SPDX-License-Identifier: Apache-2.0
"""A tensor as a map small enough to draw: the strongest value of every cell, so that no outlier is averaged away."""

# R rows (all leading dims), C channels (the last dim)

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MAX_ROWS, MAX_COLUMNS = 64, 96
TILE, FACE = 32, 16


@dataclass(frozen=True)
class TensorMap:
    """`values[i, j]` is the value of greatest magnitude in a cell of `rows_a_cell` × `channels_a_cell` values.

    A cell that holds a non-finite value is nan. The map's first value is at `row`, `channel` of its tensor, which ends
    at `row_end`, `channel_end`; cells at its end may hold fewer values.
    """

    values: np.ndarray
    rows_a_cell: int
    channels_a_cell: int
    row: int
    channel: int
    row_end: int
    channel_end: int


def as_it_is(values_RC: np.ndarray, row: int, channel: int) -> TensorMap:
    """A map with a cell for each value, those that are not finite as nan."""
    shown = np.where(np.isfinite(values_RC), values_RC, np.nan)
    return TensorMap(shown, 1, 1, row, channel, row + values_RC.shape[0], channel + values_RC.shape[1])


def cell_size(values: int, at_most: int) -> int:
    """How many values a cell spans: a part of a tile, 1, 2, 4, …, or whole tiles, so that tiles' borders are cells'."""
    least = max(1, math.ceil(values / at_most))
    return 1 << (least - 1).bit_length() if least <= TILE else math.ceil(least / TILE) * TILE


class MapBuilder:
    """Builds the map of a tensor that comes in blocks of rows."""

    def __init__(self, rows: int, channels: int) -> None:
        self.rows, self.channels = rows, channels
        self.rows_a_cell, self.channels_a_cell = cell_size(rows, MAX_ROWS), cell_size(channels, MAX_COLUMNS)
        self._starts = np.arange(0, channels, self.channels_a_cell)
        shape = math.ceil(rows / self.rows_a_cell), len(self._starts)
        self._high, self._low = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)

    def add(self, band: int, values_RC: np.ndarray) -> None:
        """Some rows of one row of cells, in any order."""
        for kept, reduce in ((self._high, np.maximum), (self._low, np.minimum)):
            cells = reduce.reduceat(reduce.reduce(values_RC, axis=0), self._starts)
            reduce(kept[band], cells, out=kept[band])  # a nan stays one

    def result(self) -> TensorMap:
        finite = np.isfinite(self._high) & np.isfinite(self._low)
        strongest = np.where(self._high >= -self._low, self._high, self._low)
        return TensorMap(
            np.where(finite, strongest, np.nan).astype(np.float64),
            self.rows_a_cell,
            self.channels_a_cell,
            0,
            0,
            self.rows,
            self.channels,
        )
