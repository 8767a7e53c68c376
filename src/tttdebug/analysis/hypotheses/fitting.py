# SPDX-License-Identifier: Apache-2.0
"""Fitting one number of a change to the port's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_GOLDEN = (math.sqrt(5) - 1) / 2


def best_on_a_log_scale(
    error: Callable[[float], float], least: float, most: float, points: int, refinements: int = 14
) -> float:
    """The number between `least` and `most` with the least error: the best of a logarithmic grid, then refined."""
    low, high = math.log(least), math.log(most)
    step = (high - low) / (points - 1)
    best = min((low + i * step for i in range(points)), key=lambda at: error(math.exp(at)))
    return math.exp(_golden_section(lambda at: error(math.exp(at)), best - step, best + step, refinements))


def best_near(error: Callable[[float], float], centres: Sequence[float], span: float, refinements: int = 12) -> float:
    """The best of `centres`, refined between it divided by `span` and times `span`, on a logarithmic scale."""
    best = math.log(min(centres, key=error))
    reach = math.log(span)
    return math.exp(_golden_section(lambda at: error(math.exp(at)), best - reach, best + reach, refinements))


def _golden_section(error: Callable[[float], float], low: float, high: float, steps: int) -> float:
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    error_left, error_right = error(left), error(right)
    for _ in range(steps):
        if error_left <= error_right:
            high, right, error_right = right, left, error_left
            left = high - _GOLDEN * (high - low)
            error_left = error(left)
        else:
            low, left, error_left = left, right, error_right
            right = low + _GOLDEN * (high - low)
            error_right = error(right)
    return left if error_left <= error_right else right
