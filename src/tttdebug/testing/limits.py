# SPDX-License-Identifier: Apache-2.0
"""The metrics that a threshold can limit: from which side, and what limits make sense."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

RELATIVE_TO_FLOOR = "rel_l2_of_floor"


@dataclass(frozen=True)
class Side:
    """From which side a limit bounds a metric. `badness` grows with the error; a nan never holds."""

    holds: Callable[[Floats, Floats], Flags]
    badness: Callable[[Floats], Floats]
    text: str

    def says(self, metric: str, value: float, limit: float) -> str:
        """The sentence for a limit that is missed: `pcc 0.831 is not ≥ 0.98`."""
        return f"{metric} {value:.6g} is not {self.text.format(limit=limit)}"


AT_LEAST = Side(lambda values, limits: values >= limits, lambda values: -values, "≥ {limit:g}")
AT_MOST = Side(lambda values, limits: values <= limits, lambda values: values, "≤ {limit:g}")
AROUND_ONE = Side(
    lambda values, limits: np.abs(values - 1) <= limits, lambda values: np.abs(values - 1), "within 1 ± {limit:g}"
)


@dataclass(frozen=True)
class Metric:
    """A metric, and the limits that limit something: from `least` to below `beyond`, or up to it where `closed`."""

    side: Side
    least: float = 0.0
    beyond: float = math.inf
    closed: bool = False
    open_below: bool = False

    def allows(self, limit: Any) -> bool:
        """Whether `limit` is a number in that range."""
        if isinstance(limit, bool) or not isinstance(limit, (int, float)):
            return False
        above = limit > self.least if self.open_below else limit >= self.least
        return above and (limit <= self.beyond if self.closed else limit < self.beyond)

    @property
    def range(self) -> str:
        """The limits that are allowed, in words."""
        low = f"above {self.least:g}" if self.open_below else f"{self.least:g} or more"
        high = "" if self.beyond == math.inf else f", {'at most' if self.closed else 'below'} {self.beyond:g}"
        return f"a finite number, {low}{high}"


_CORRELATION = Metric(AT_LEAST, 0.0, 1.0, closed=True, open_below=True)
_RELATIVE = Metric(AT_MOST, 0.0, 1.0)  # an output of zeros has an error of 1: a limit of 1 would let it pass
_ABSOLUTE = Metric(AT_MOST)
_SCALE = Metric(AROUND_ONE, 0.0, 1.0)

METRICS: dict[str, Metric] = {
    "pcc": _CORRELATION,
    "cosine": _CORRELATION,
    "worst_token_pcc": _CORRELATION,
    "last_token_pcc": _CORRELATION,
    "slope": _SCALE,
    "norm_ratio": _SCALE,
    "rel_l2": _RELATIVE,
    RELATIVE_TO_FLOOR: Metric(AT_MOST, open_below=True),
    "max_abs_diff": _ABSOLUTE,
    "mean_abs": _ABSOLUTE,
    "rmse": _ABSOLUTE,
    "ulp_p50": _ABSOLUTE,
    "ulp_p99": _ABSOLUTE,
    "ulp_max": _ABSOLUTE,
    "nonfinite_port": _ABSOLUTE,
}
"""By the name that a file of thresholds gives them: that of the record's column, but for `rel_l2_of_floor`."""
