# SPDX-License-Identifier: Apache-2.0
"""A logarithmic axis: decades that hold all values, and where on it a value lies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_MOST_DECADES = 8


@dataclass(frozen=True)
class LogScale:
    """From 10^low to 10^high. What is not a number or beyond lies at the top, zero and less at the bottom."""

    low: int
    high: int

    @classmethod
    def over(cls, values: Iterable[float]) -> LogScale:
        """Whole decades, one at least and eight at most."""
        logs = [math.log10(value) for value in values if value > 0 and math.isfinite(value)]
        if not logs:
            return cls(-2, 0)
        high = max(math.ceil(max(logs)), math.floor(min(logs)) + 1)
        return cls(max(math.floor(min(logs)), high - _MOST_DECADES), high)

    def share(self, value: float) -> float:
        """How far up, from 0 to 1."""
        if not value < math.inf:
            return 1.0
        if value <= 0:
            return 0.0
        return min(max((math.log10(value) - self.low) / (self.high - self.low), 0.0), 1.0)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The decades, each with its label: 0.001, 0.1, 10."""
        return [
            (10.0**power, f"{10.0**power:.{max(-power, 0)}f}" if -4 < power < 4 else f"1e{power}")
            for power in range(self.low, self.high + 1)
        ]
