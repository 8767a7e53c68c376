# SPDX-License-Identifier: Apache-2.0
"""All that is drawn of a saved pair, gathered in one pass over its file; nothing of it grows with the tensor's rows
times channels."""

# R rows (all leading dims), C channels (the last dim), N = R·C

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scatter import Grid, ScatterCounter
from tensor_map import MapBuilder, TensorMap
from tttdebug.tracking.saved_pair import SavedPair

STEP_BINS = 18
"""Distances in bfloat16 steps: 0, 1, 2–3, 4–7, …, up to 65,535, and not finite."""
_VALUES_AT_ONCE = 1 << 16
MOST = 0.999


@dataclass(frozen=True)
class Sums:
    """Sums over one dimension for each place of the other: of (port − reference)² and of reference²."""

    error: np.ndarray
    reference: np.ndarray

    def rel_l2(self, parts: int | None = None) -> np.ndarray:
        """‖port − reference‖/‖reference‖ at each place, or of so many equal runs of places; inf where 0 is missed."""
        error, reference = self.error, self.reference
        if parts is not None:
            error, reference = (side.reshape(parts, -1).sum(axis=1) for side in (error, reference))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(error == 0, 0.0, np.sqrt(error / reference))


@dataclass(frozen=True)
class Reductions:
    """A saved pair and its difference, ready to draw."""

    reference: TensorMap
    port: TensorMap
    difference: TensorMap
    of_rows: Sums
    of_channels: Sums
    channel_reference: np.ndarray
    """max |reference| of each channel."""
    channel_error: np.ndarray
    """max |port − reference| of each channel."""
    channel_band: np.ndarray
    """In which row of the maps' cells that error is."""
    steps: np.ndarray
    """How many elements are so many bfloat16 steps apart: see `STEP_BINS`."""
    everything: Grid
    most: Grid
    """Reference against port: all elements, and the least range that holds 99.9 % of them."""


def reductions_of(pair: SavedPair) -> Reductions:
    """Raises RunError where the file is damaged."""
    maps = [MapBuilder(pair.rows, pair.channels) for _ in range(3)]
    row_sums, channel_sums = np.zeros((2, pair.rows)), np.zeros((2, pair.channels))
    greatest = np.full((2, pair.channels), -1.0, np.float32)
    band_of = np.zeros(pair.channels, np.int64)
    steps, scatter = np.zeros(STEP_BINS, np.int64), ScatterCounter()
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is shown as such
        for start, band, r, t in _pieces(pair, maps[0].rows_a_cell):
            wide_r, wide_d = r.astype(np.float64), t.astype(np.float64)
            wide_d -= wide_r
            for i, wide in enumerate((wide_d, wide_r)):
                row_sums[i, start : start + len(r)] = np.einsum("rc,rc->r", wide, wide)
                channel_sums[i] += np.einsum("rc,rc->c", wide, wide)
            d = np.abs(t - r)
            for builder, values in zip(maps, (r, t, d), strict=True):
                builder.add(band, values)
            np.maximum(greatest[0], np.abs(r).max(axis=0), out=greatest[0])
            errors = np.nan_to_num(d.max(axis=0), nan=np.inf, posinf=np.inf)
            greater = errors > greatest[1]
            greatest[1][greater], band_of[greater] = errors[greater], band
            flat_r, flat_t = r.reshape(-1), t.reshape(-1)
            steps += _steps_apart(flat_r, flat_t)
            scatter.add(flat_r, flat_t)
    return Reductions(
        reference=maps[0].result(),
        port=maps[1].result(),
        difference=maps[2].result(),
        of_rows=Sums(*row_sums),
        of_channels=Sums(*channel_sums),
        channel_reference=greatest[0],
        channel_error=greatest[1],
        channel_band=band_of,
        steps=steps,
        everything=scatter.result(),
        most=scatter.result(MOST),
    )


def _pieces(pair: SavedPair, rows_a_cell: int) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """First row, row of cells, reference and port [R, C] of some rows of one row of cells after another, few enough to
    stay in the processor's cache.
    """
    at_once = max(1, _VALUES_AT_ONCE // max(1, pair.channels))
    for block in pair.blocks():
        first = 0
        while first < len(block.port_RC):
            start = block.start + first
            band = start // rows_a_cell
            end = min(first + at_once, (band + 1) * rows_a_cell - block.start, len(block.port_RC))
            yield start, band, block.reference_RC[first:end], block.port_RC[first:end]
            first = end


def _steps_apart(reference_N: np.ndarray, port_N: np.ndarray) -> np.ndarray:
    """Counts by the bit length of the distance in bfloat16 steps; the last bin holds pairs that are not finite."""
    reference_N, port_N = _bfloat16_places(reference_N), _bfloat16_places(port_N)
    finite = 0x7F80
    distance_N = np.abs(reference_N - port_N)
    counts = np.zeros(STEP_BINS, np.int64)
    if max(np.abs(reference_N).max(), np.abs(port_N).max()) >= finite:
        missing_N = (np.abs(reference_N) >= finite) | (np.abs(port_N) >= finite)
        distance_N = distance_N[~missing_N]
        counts[-1] = missing_N.sum()
    counts[: STEP_BINS - 1] = np.bincount(_BIT_LENGTH.take(distance_N), minlength=STEP_BINS - 1)
    return counts


_BIT_LENGTH = np.array([number.bit_length() for number in range(1 << 16)], np.int8)


def _bfloat16_places(values_N: np.ndarray) -> np.ndarray:
    """Where each value, rounded to bfloat16, stands among its numbers in order; both zeros are 0 (int32)."""
    bits_N = values_N.view(np.uint32)
    magnitude_N = bits_N & 0x7FFFFFFF
    magnitude_N += ((magnitude_N >> 16) & 1) + np.uint32(0x7FFF)
    magnitude_N >>= 16
    sign_N = values_N.view(np.int32) >> 31  # 0 or −1
    places_N = magnitude_N.view(np.int32)
    places_N ^= sign_N
    places_N -= sign_N
    return places_N
