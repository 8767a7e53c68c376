# SPDX-License-Identifier: Apache-2.0
"""Where a boundary stands: its error over all calls of a phase."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from tttdebug.tracking.record import FAILING_VERDICTS

SMALLEST = 1e-7  # rel_l2: errors below fp32's own rounding count as this
_MISSED = FAILING_VERDICTS | {"inherited"}  # the gate is missed, whoever's fault it is
_BROKEN = frozenset({"nonfinite", "shape_mismatch"})


@dataclass(frozen=True, order=True)
class Place:
    """A boundary in one phase and mode; in a baseline file the boundary may be a pattern such as `L*.mlp`."""

    boundary: str
    phase: str = "prefill"
    mode: str = "accumulated"

    def __str__(self) -> str:
        return f"{self.boundary} {self.phase}" + ("" if self.mode == "accumulated" else f" {self.mode}")


class Measured(NamedTuple):
    """What one call of a boundary gave; a tuple, of which a run holds a hundred thousand."""

    rel_l2: float
    verdict: str


Calls = Mapping[tuple[int, int], Measured]
"""By decode step and user."""


@dataclass(frozen=True)
class Standing:
    """One boundary over its calls: the median rel_l2, the worst, and the worst verdict."""

    rel_l2: float
    worst: float
    calls: int
    verdict: str


def severity(verdict: str) -> int:
    """0 where the gate holds, 1 where the number formats explain that it does not, 2 where not, 3 for no numbers."""
    if verdict in _MISSED:
        return 3 if verdict in _BROKEN else 2
    return 0 if verdict == "ok" else 1


def change(before: float, after: float) -> float:
    """ln(after / before) of two errors; one that is no number is infinite, two of those are alike."""
    before, after = error_of(before), error_of(after)
    return 0.0 if before == after else math.log(after) - math.log(before)


def standing_of(calls: Calls) -> Standing:
    """Where a boundary with these calls, one at least, stands."""
    errors = sorted(error_of(measured.rel_l2) for measured in calls.values())
    verdict = max({measured.verdict for measured in calls.values()}, key=severity)
    return Standing(median(errors), errors[-1], len(errors), verdict)


def worst_of(standings: Iterable[Standing]) -> Standing:
    """What several boundaries together do not exceed."""
    each = tuple(standings)
    return Standing(
        max(standing.rel_l2 for standing in each),
        max(standing.worst for standing in each),
        min(standing.calls for standing in each),
        max((standing.verdict for standing in each), key=severity),
    )


def error_of(rel_l2: float) -> float:
    """A rel_l2 that can be ordered: infinite where it is no number, at least `SMALLEST`."""
    if rel_l2 > SMALLEST:
        return rel_l2
    return math.inf if math.isnan(rel_l2) else SMALLEST
