# SPDX-License-Identifier: Apache-2.0
"""The limit that would have caught a fault: from a sound run's own values, with a margin."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tttdebug.testing.applied_limits import AppliedLimits
from tttdebug.testing.limits import AT_LEAST, METRICS, RELATIVE_TO_FLOOR, Flags, Floats
from tttdebug.testing.record_columns import RecordColumns
from tttdebug.testing.thresholds import names

MARGIN = 1.5
"""How much worse than the worst of a sound run a limit lets an error be."""
PROPOSED_METRICS = (RELATIVE_TO_FLOOR, "rel_l2", "slope", "norm_ratio", "worst_token_pcc", "pcc")
"""What a limit can be proposed of, the more telling first."""
_LEAST_OF_FLOOR = 1.5
"""A floor is measured in bfloat16 once: a sound port that rounds otherwise may well err so much more."""
_LAYER = re.compile(r"^L\d+\.")


@dataclass(frozen=True)
class TighterLimit:
    """A limit on `metric` of what `pattern` names in `phase`. `sound` is the worst value of the sound run there,
    `faulty` that of the fault.
    """

    pattern: str
    phase: str
    metric: str
    limit: float
    sound: float
    faulty: float

    def to_toml(self) -> str:
        """As it stands in a file of thresholds."""
        lines = (f'boundaries = "{self.pattern}"', f'phase = "{self.phase}"', f"{self.metric} = {self.limit:g}")
        return "\n".join(("[[threshold]]", *lines))


def tighter_limit(sound: RecordColumns, faulty: RecordColumns, applied: AppliedLimits) -> TighterLimit | None:
    """The limit that tells both runs apart best, for all layers of a kind where one does; None where none does.

    `applied` are the limits that the sound run is held to now: where one of them is tighter, none is proposed.
    """
    found = [limit for pattern in _patterns(sound) for limit in _limits_of(pattern, sound, faulty, applied)]
    return min(found, key=_rank, default=None)


def _rank(limit: TighterLimit) -> tuple[bool, int, float]:
    """Lower for what is to be preferred: all layers of a kind, the more telling metric, the wider gap."""
    allowed = _error_of_limit(limit.metric, limit.limit)
    gap = _error(limit.metric, np.array([limit.faulty]))[0] / max(allowed, 1e-12)
    return not limit.pattern.startswith("L*"), PROPOSED_METRICS.index(limit.metric), -float(gap)


def _patterns(columns: RecordColumns) -> list[str]:
    boundaries, _ = columns.coded("boundary")
    return list(dict.fromkeys([*(_LAYER.sub("L*.", boundary) for boundary in boundaries), *boundaries]))


def _limits_of(
    pattern: str, sound: RecordColumns, faulty: RecordColumns, applied: AppliedLimits
) -> Iterator[TighterLimit]:
    for phase in sound.coded("phase")[0]:
        rows, others = (_rows(columns, pattern, phase) for columns in (sound, faulty))
        for metric in PROPOSED_METRICS if rows.any() and others.any() else ():
            worst, bad = (
                _worst(metric, columns.metric(metric)[chosen]) for columns, chosen in ((sound, rows), (faulty, others))
            )
            if not math.isfinite(worst):
                continue
            limit = _with_margin(metric, worst)
            allowed = _error_of_limit(metric, limit)
            caught = not _error(metric, np.array([bad]))[0] <= allowed
            now = applied.limits.get(metric)
            is_tighter = now is None or not (_error_of_limit(metric, now[rows]) <= allowed).any()
            if caught and is_tighter and METRICS[metric].allows(limit):
                yield TighterLimit(pattern, phase, metric, limit, worst, bad)


def _rows(columns: RecordColumns, pattern: str, phase: str) -> Flags:
    return (
        columns.where("boundary", lambda boundary: names(pattern, boundary))
        & columns.where("phase", phase.__eq__)
        & columns.where("mode", "accumulated".__eq__)
    )


def _error(metric: str, values: Floats) -> Floats:
    """How far each value is from that of a perfect copy: 1 − pcc, |slope − 1|, rel_l2 itself."""
    side = METRICS[metric].side
    return 1 - values if side is AT_LEAST else side.badness(values)


def _error_of_limit(metric: str, limit: Any) -> Any:
    """The error that a limit, or each of several, lets pass; that of a slope is a distance already."""
    return 1 - limit if METRICS[metric].side is AT_LEAST else limit


def _worst(metric: str, values: Floats) -> float:
    errors = _error(metric, values)
    return float(values[int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))])


def _with_margin(metric: str, worst: float) -> float:
    """The limit that lets an error be so much worse than `worst`, in two digits; 1 − pcc goes with its square."""
    error = float(_error(metric, np.array([worst]))[0])
    if METRICS[metric].side is AT_LEAST:
        return 1 - _rounded_up(error * MARGIN**2)
    limit = _rounded_up(error * MARGIN)
    return max(limit, _LEAST_OF_FLOOR) if metric == RELATIVE_TO_FLOOR else limit


def _rounded_up(value: float) -> float:
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.6g}")
