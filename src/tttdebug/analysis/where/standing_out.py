# SPDX-License-Identifier: Apache-2.0
"""Which units of a tensor hold an error of another size than the rest: those above the one wide gap in their errors.

U units.
"""

from __future__ import annotations

import math

from torch import Tensor

from tttdebug.analysis.where.energy import Units

_CLEAR = math.log(4.0)
"""How far apart, in logarithms of energy, two kinds of units are at least: twice the rel_l2."""
_DEVIATIONS = 6.0
"""And so many standard deviations of the energy of noise in a unit, √(2/n) for n elements, more."""
_ROUNDING_OF_FP32 = 1e-7
_SEVERAL, _FEWEST = 16, 4  # elements in a unit


def standing_out(units: Units, floor_rel_l2: float) -> Tensor | None:
    """The units [U], as a mask, whose error stands out from that of the rest and from the floor; None where none does.

    Their errors, sorted, have one gap that is much wider than noise of one size leaves: the units above it stand out.
    Units of less than 16 elements do so too where they are far above the median. Differences below the floor do not
    count. Where more than half of the units stand out, the rest is right by itself
    only if its error is smaller in absolute terms too.
    """
    n = float(units.count_U.median())
    ground = max(floor_rel_l2 if math.isfinite(floor_rel_l2) else 0.0, _ROUNDING_OF_FP32) ** 2
    size_U = units.relative_U.clamp_min(ground).log()
    if len(size_U) < 2:
        return None
    above_gap_U = _above_the_gap(units, size_U)
    return _far_above_the_median(size_U, n) if above_gap_U is None and n < _SEVERAL else above_gap_U


def _above_the_gap(units: Units, size_U: Tensor) -> Tensor | None:
    sorted_U, order_U = size_U.sort()
    gaps = sorted_U.diff().nan_to_num(nan=0.0)  # inf − inf
    below = int(gaps.argmax())
    n = float(units.count_U[order_U[below + 1]])
    if float(gaps[below]) < _CLEAR + _DEVIATIONS * math.sqrt(2 / n):
        return None
    if float(units.count_U[order_U[: below + 1]].sum()) < _SEVERAL:  # few squares of noise may be as small as they like
        return None
    standing_U = size_U > sorted_U[below]
    if 2 * int(standing_U.sum()) <= len(standing_U):
        return standing_U
    absolute_U = units.error_U / units.count_U
    apart = float(absolute_U[standing_U].min()) > 4 * float(absolute_U[~standing_U].max())
    return standing_U if apart and n >= _FEWEST else None


def _far_above_the_median(size_U: Tensor, n: float) -> Tensor | None:
    """Single elements, or a few together: a fault may by luck be small in some of them, so there need be no gap."""
    if len(size_U) < _SEVERAL:
        return None
    far = float(size_U.median()) + _CLEAR + math.log1p(2 * _DEVIATIONS * math.sqrt(2 / n))
    standing_U = size_U > far
    return standing_U if bool(standing_U.any()) else None
