# SPDX-License-Identifier: Apache-2.0
"""A tensor as a map small enough to draw: the strongest value of every cell, so that no outlier is averaged away."""

# R rows (all leading dims), C channels (the last dim), r × c values to a cell

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MAX_ROWS, MAX_COLUMNS = 64, 96


@dataclass(frozen=True)
class TensorMap:
    """`values[i, j]` is the value of greatest magnitude in a cell of `rows_a_cell` × `channels_a_cell` values.

    A cell that holds a non-finite value is nan.
    """

    values: np.ndarray
    rows_a_cell: int
    channels_a_cell: int


def max_pooled(values_RC: np.ndarray) -> TensorMap:
    """The map of a matrix, at most 64 × 96 cells."""
    rows, channels = values_RC.shape
    r, c = math.ceil(rows / MAX_ROWS), math.ceil(channels / MAX_COLUMNS)
    padded = np.pad(values_RC, ((0, -rows % r), (0, -channels % c)))
    cells = padded.reshape(padded.shape[0] // r, r, padded.shape[1] // c, c).swapaxes(1, 2)
    cells = cells.reshape(*cells.shape[:2], r * c)
    strongest = np.abs(cells).argmax(axis=-1, keepdims=True)
    pooled = np.take_along_axis(cells, strongest, axis=-1)[..., 0]
    return TensorMap(np.where(np.isfinite(cells).all(axis=-1), pooled, np.nan), r, c)
