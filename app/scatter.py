# SPDX-License-Identifier: Apache-2.0
"""Reference against port as a two-dimensional histogram whose range may be chosen after everything has been counted."""

# N elements; both sides of a grid are cut in `BINS` bins

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 64
_HALF = BINS // 2
_OCTAVES = 24
"""How far below the first block's greatest value octaves are told apart; a bin is then 2⁻²⁹ of it."""
_EXPONENTS = 256
_NOT_FINITE = 255  # float32's exponent of inf and nan
_BIAS = 127


@dataclass(frozen=True)
class Grid:
    """`counts[i, j]` elements have a reference in bin i and a port in bin j of ±limit; `outside` lie beyond."""

    limit: float
    counts: np.ndarray
    outside: int


class ScatterCounter:
    """Counts pairs in bins, exactly, for every range ±2^e at once.

    An element is counted on the grid of the least power of two that exceeds both its values. A grid's bins are
    halves of the next one's, so that all that a range holds is found by merging.
    """

    def __init__(self) -> None:
        self._least: int | None = None  # exponent, as float32 holds it, of the first grid
        self._counts = np.zeros((0, BINS * BINS), np.int64)

    def add(self, reference_N: np.ndarray, port_N: np.ndarray) -> None:
        """Count a block of two float32 arrays; pairs that are not finite are left out."""
        exponent_N = np.maximum(_exponents(reference_N), _exponents(port_N))
        greatest = int(exponent_N.max(initial=0))
        if greatest == _NOT_FINITE:
            finite_N = exponent_N != _NOT_FINITE
            reference_N, port_N, exponent_N = reference_N[finite_N], port_N[finite_N], exponent_N[finite_N]
            greatest = int(exponent_N.max(initial=0))
        if self._least is None:
            self._least = max(0, greatest - _OCTAVES)
        self._make_room(greatest - self._least + 1)
        np.maximum(exponent_N, self._least, out=exponent_N)
        scale_N = _SCALES.take(exponent_N)
        index_N = _bins(reference_N, scale_N)
        index_N *= BINS
        index_N += _bins(port_N, scale_N)
        exponent_N -= self._least
        exponent_N *= BINS * BINS
        index_N += exponent_N
        counted = np.bincount(index_N, minlength=self._counts.size)
        self._counts += counted.reshape(self._counts.shape)

    def _make_room(self, grids: int) -> None:
        missing = grids - len(self._counts)
        if missing > 0:
            self._counts = np.concatenate([self._counts, np.zeros((missing, BINS * BINS), np.int64)])

    def result(self, share: float = 1.0) -> Grid:
        """The grid of the least range that holds `share` of all counted elements."""
        held = np.cumsum(self._counts.sum(axis=1))
        if not len(held) or not held[-1]:
            return Grid(1.0, np.zeros((BINS, BINS), np.int64), 0)
        last = int(np.searchsorted(held, share * held[-1]))
        grid = np.zeros((BINS, BINS), np.int64)
        for counts in self._counts[: last + 1]:
            halved = grid.reshape(_HALF, 2, _HALF, 2).sum(axis=(1, 3))
            grid = counts.reshape(BINS, BINS).copy()
            middle = slice(_HALF // 2, _HALF // 2 + _HALF)
            grid[middle, middle] += halved
        assert self._least is not None
        return Grid(2.0 ** (self._least + last - _BIAS + 1), grid, int(held[-1] - held[last]))


_SCALES = np.ldexp(float(_HALF), _BIAS - 1 - np.arange(_EXPONENTS)).astype(np.float64)


def _exponents(values_N: np.ndarray) -> np.ndarray:
    bits_N = values_N.view(np.uint32) >> 23
    bits_N &= 0xFF
    return bits_N.astype(np.intp)


def _bins(values_N: np.ndarray, scale_N: np.ndarray) -> np.ndarray:
    """The bin of each value: bins are closed below."""
    scaled_N = values_N * scale_N
    np.floor(scaled_N, out=scaled_N)
    index_N = scaled_N.astype(np.intp)
    index_N += _HALF
    return index_N
