# SPDX-License-Identifier: Apache-2.0
"""Which limit each record of a run is held to, and by which threshold; what limits nothing is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from tttdebug.errors import ThresholdError
from tttdebug.testing.kept_weights import weight_formats
from tttdebug.testing.limits import Flags, Floats
from tttdebug.testing.record_columns import RecordColumns
from tttdebug.testing.thresholds import Threshold, Thresholds, names, nearest
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Key
from tttdebug.tracking.run import ACCUMULATED

NO_THRESHOLD = -1


@dataclass(frozen=True)
class AppliedLimits:
    """By metric: the limit of each of N records, nan where it has none, and the number of the threshold that set it.

    `set_aside` says, a sentence each, which thresholds limit nothing in this run, and why that is no error.
    """

    limits: Mapping[str, Floats]
    sources: Mapping[str, NDArray[np.int64]]
    set_aside: tuple[str, ...]


def applied(
    thresholds: Thresholds, columns: RecordColumns, manifest: Manifest, absent: Iterable[Key] = ()
) -> AppliedLimits:
    """The limits of every record.

    `absent` are comparisons that were expected and are not there, which a pattern may name as well. Raises
    ThresholdError for a threshold that names nothing, and for a boundary that none names.
    """
    absent = tuple(absent)
    metrics = dict.fromkeys(metric for threshold in thresholds.thresholds for metric in threshold.limits)
    limits = {metric: np.full(len(columns), np.nan) for metric in metrics}
    sources = {metric: np.full(len(columns), NO_THRESHOLD) for metric in metrics}
    set_aside: dict[int, str] = {}
    if manifest.finished:
        _refuse_idle_patterns(thresholds, {*columns.coded("boundary")[0], *(key.boundary for key in absent)})
    for number, threshold in enumerate(thresholds.thresholds):
        selected = _selected(threshold, columns)
        if not selected.any() and not any(_selects(threshold, key) for key in absent):
            if manifest.finished and not threshold.optional:
                raise _names_nothing(threshold)
            set_aside[number] = "it names nothing in this run"
            continue
        selected &= _condition(threshold, columns, manifest)
        if not selected.any():
            set_aside[number] = _unmet(threshold, manifest)
        for metric, limit in threshold.limits.items():
            limits[metric][selected] = limit
            sources[metric][selected] = number
    _refuse_uncovered(limits, columns, thresholds)
    counting = set().union(*(np.unique(source).tolist() for source in sources.values()))
    for number in range(len(thresholds.thresholds)):
        if number not in counting:
            set_aside.setdefault(number, "later ones override all of it")
    said = (f"{thresholds.thresholds[number].place}: {why}" for number, why in sorted(set_aside.items()))
    return AppliedLimits(limits, sources, tuple(said))


def _refuse_idle_patterns(thresholds: Thresholds, boundaries: Collection[str]) -> None:
    for threshold in thresholds.thresholds:
        for pattern in () if threshold.optional else threshold.boundaries:
            if not any(names(pattern, boundary) for boundary in boundaries):
                raise _refused(threshold, pattern, nearest(pattern, boundaries))


def _selected(threshold: Threshold, columns: RecordColumns) -> Flags:
    selected = columns.where("boundary", threshold.names) & columns.where("mode", threshold.mode.__eq__)
    if threshold.phase:
        selected &= columns.where("phase", threshold.phase.__eq__)
    if threshold.steps is not None:
        steps = columns.count("step")
        selected &= (steps >= threshold.steps[0]) & (steps <= threshold.steps[1])
    return selected


def _selects(threshold: Threshold, key: Key) -> bool:
    return (
        threshold.names(key.boundary)
        and threshold.mode == key.mode
        and threshold.phase in ("", key.phase)
        and (threshold.steps is None or threshold.steps[0] <= key.step <= threshold.steps[1])
    )


def _condition(threshold: Threshold, columns: RecordColumns, manifest: Manifest) -> Flags:
    """Where precision, weights and number of tokens are such that the threshold applies."""
    met = np.full(len(columns), _is_of_precision(threshold, manifest))
    if threshold.tokens_below is not None:
        met &= columns.count("tokens") < threshold.tokens_below
    if threshold.when:
        met &= columns.where("boundary", lambda boundary: threshold.when in weight_formats(boundary, manifest.hardware))
    return met


def _is_of_precision(threshold: Threshold, manifest: Manifest) -> bool:
    """Raises ThresholdError for a precision that is neither the run's nor any preset: it would never apply."""
    if not threshold.precision or fnmatchcase(manifest.precision, threshold.precision):
        return True
    from tttdebug.modules.hardware import HINTS, PRESETS  # costs more than all else here, and is mostly not needed

    known = (*PRESETS, *HINTS)
    if not any(fnmatchcase(name, threshold.precision) for name in known) and not threshold.optional:
        raise ThresholdError(
            f"{threshold.place}: precision = {threshold.precision!r} is neither the run's, {manifest.precision!r}, nor "
            f"a preset; {nearest(threshold.precision, (manifest.precision, *known))}; or add optional = true"
        )
    return False


def _unmet(threshold: Threshold, manifest: Manifest) -> str:
    if not _is_of_precision(threshold, manifest):
        return f"the run is of precision {manifest.precision!r}, not {threshold.precision!r}"
    if threshold.when and not manifest.hardware:
        return f"the run does not say which weights are kept in {threshold.when}"
    conditions = [f"weights in {threshold.when}"] if threshold.when else []
    if threshold.tokens_below is not None:
        conditions.append(f"fewer than {threshold.tokens_below} tokens")
    return f"nothing that it names has {' and '.join(conditions)}"


def _names_nothing(threshold: Threshold) -> ThresholdError:
    """For patterns that name boundaries of the run, but none in the calls that the threshold is of."""
    parts = {"phase": threshold.phase, "mode": threshold.mode if threshold.mode != ACCUMULATED else ""}
    if threshold.steps is not None:
        parts["step"] = "-".join(map(str, dict.fromkeys(threshold.steps)))
    said = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    return _refused(threshold, ", ".join(threshold.boundaries), f"the run compared them, but not in {said}")


def _refused(threshold: Threshold, patterns: str, why: str) -> ThresholdError:
    return ThresholdError(
        f"{threshold.place}: {patterns} names nothing that this run compared; {why}; mend it, or add optional = true"
    )


def _refuse_uncovered(limits: Mapping[str, Floats], columns: RecordColumns, thresholds: Thresholds) -> None:
    covered = ~columns.where("mode", ACCUMULATED.__eq__)
    for limit in limits.values():
        covered |= ~np.isnan(limit)
    if covered.all():
        return
    calls = [columns.key(int(row)) for row in np.flatnonzero(~covered)]
    first = f"{calls[0].boundary} in {calls[0].phase} {calls[0].step}"
    boundaries = dict.fromkeys(key.boundary for key in calls)
    patterns = [pattern for threshold in thresholds.thresholds for pattern in threshold.boundaries]
    more = f" and {len(boundaries) - 1} other boundaries" if len(boundaries) > 1 else ""
    raise ThresholdError(
        f"{thresholds.origin}: no threshold applies to {first}{more}, so nothing would hold them to anything; "
        f'patterns {nearest(calls[0].boundary, patterns)}; add a threshold, or a first one for "*"'
    )
