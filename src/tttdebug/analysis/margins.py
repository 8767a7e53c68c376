# SPDX-License-Identifier: Apache-2.0
"""How far sound modules of this very port are from their floors, measured over prompts, with a bootstrap interval.

The limit of `own_error` holds for any sound port. A port's modules of one kind are mostly far below it and alike, so
that one of them that is not can be told although it is below that limit.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tttdebug.tracking.gates import kind_of

DRAWS = 400
"""Bootstrap samples: enough for the 2.5 and 97.5 % points."""

FEWEST_ALIKE = 4
"""Modules of one kind, and prompts, from which their spread says anything."""

ABOVE_ITS_KIND, LEAST = 3.0, 0.25
"""A module is out of its kind above three times the median of it, and a quarter of the general limit."""


@dataclass(frozen=True)
class Interval:
    """A mean over prompts, and the interval that holds 95 % of its bootstrap samples."""

    mean: float
    low: float
    high: float


@dataclass
class Margins:
    """Own errors in units of their limits, by boundary and prompt, of one phase.

    `by_kind` says whether modules of one kind are held against each other.
    """

    by_kind: bool = True
    seed: int = 0
    _ratios: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, boundary: str, prompt: int, ratio: float) -> None:
        """One measurement: `unexplained / limit` of an `OwnError`."""
        self._ratios[boundary][prompt] = ratio

    def interval(self, boundary: str) -> Interval:
        """Of one boundary over the prompts. Raises KeyError for one that was not measured."""
        ratios_P = np.array(list(self._ratios[boundary].values()))
        return _interval(ratios_P[self._draws(len(ratios_P))].mean(axis=1), float(ratios_P.mean()))

    def limit(self, boundary: str) -> float:
        """Above which ratio a module is at fault: 1, or less where its kind shows that sound ones stay far below.

        Kinds are those of the boundaries' names; the first prompts decide, so that it is known before the run's own.
        """
        alike = [ratios for name, ratios in self._ratios.items() if kind_of(name) == kind_of(boundary)]
        prompts = sorted(set.intersection(*(set(ratios) for ratios in alike))) if alike else []
        if not self.by_kind or len(alike) < FEWEST_ALIKE or len(prompts) < FEWEST_ALIKE:
            return 1.0
        ratios_MP = np.array([[ratios[prompt] for prompt in prompts] for ratios in alike])
        medians_B = np.median(ratios_MP[:, self._draws(len(prompts))].mean(axis=2), axis=0)
        upper = _interval(medians_B, float(np.median(ratios_MP.mean(axis=1)))).high
        return float(np.clip(ABOVE_ITS_KIND * upper, LEAST, 1.0))

    def is_at_fault(self, boundary: str) -> bool:
        """Whether the whole interval of a boundary is above its limit. What is not finite is."""
        interval = self.interval(boundary)
        return not interval.low <= self.limit(boundary)

    def _draws(self, prompts: int) -> NDArray[np.int64]:
        return np.random.default_rng(self.seed).integers(prompts, size=(DRAWS, prompts))


def _interval(samples: NDArray[np.float64], mean: float) -> Interval:
    low, high = np.percentile(samples, (2.5, 97.5), method="nearest")  # no arithmetic with what is not finite
    return Interval(mean, float(low), float(high))
