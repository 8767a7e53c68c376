# SPDX-License-Identifier: Apache-2.0
"""Judging a run by thresholds: every limit that is missed, and everything that makes the run no proof."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tttdebug.errors import ThresholdError
from tttdebug.testing.applied_limits import AppliedLimits, applied
from tttdebug.testing.gate_result import GateResult, Ledger, Miss, WorstValue
from tttdebug.testing.kept_profiles import profiles_of
from tttdebug.testing.ledger import allowed_skips, objections, read_baseline, vanished_since
from tttdebug.testing.limits import METRICS
from tttdebug.testing.record_columns import RecordColumns, read_columns
from tttdebug.testing.thresholds import Thresholds, names, nearest
from tttdebug.tracking.core_slope import core_slope
from tttdebug.tracking.gates import explained_by_floor
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.metric_notes import CONSTANT_REFERENCE, ZERO_REFERENCE, rel_l2_instead_of
from tttdebug.tracking.record import Key
from tttdebug.tracking.run import ACCUMULATED, MANIFEST

NONFINITE, SHAPE_MISMATCH = "nonfinite", "shape_mismatch"
"""Verdicts that fail whatever the limits are."""
_DIGEST = re.compile("[0-9a-fA-F]{8,64}")
_NO_LIMITS = AppliedLimits({}, {}, ())
_PLACES_GIVEN = 100  # of so many misses, the first ones, it is looked up where in the tensor they sit


def gate_run(
    run: str | Path,
    thresholds: Thresholds,
    *,
    baseline: str | Path | None = None,
    reference_digest: str | None = None,
) -> GateResult:
    """The run in folder `run` held to `thresholds`, and to have compared all it should and all that `baseline` did.

    `reference_digest` is the beginning of the digest that the reference's weights must have. Raises RunError for a
    folder that holds no run or a damaged one, ThresholdError for thresholds that do not fit the run.
    """
    if reference_digest is not None and not _DIGEST.fullmatch(reference_digest):
        raise ThresholdError(
            f"{reference_digest!r} is no digest; give 8 to 64 hexadecimal digits, as the manifest's model has them"
        )
    path = Path(run)
    manifest = Manifest.read(path / MANIFEST)
    metrics = dict.fromkeys(metric for threshold in thresholds.thresholds for metric in threshold.limits)
    columns = read_columns(path, manifest, metrics)
    earlier = None if baseline is None else read_baseline(baseline)
    vanished = [] if earlier is None else vanished_since(earlier, columns, manifest.skipped)
    allowed = allowed_skips(manifest, thresholds)
    skipped = [Key(entry.boundary, entry.phase, entry.step, entry.user) for entry in manifest.skipped]
    objected = objections(
        path,
        manifest,
        columns,
        allowed,
        vanished=vanished,
        baseline=earlier,
        reference_digest=reference_digest,
    )
    limits = applied(thresholds, columns, manifest, (*skipped, *vanished)) if len(columns) else _NO_LIMITS
    misses, excused = _judged(path, thresholds, columns, limits)
    return GateResult(
        run=path,
        model=str(manifest.model.get("name", "")),
        reference_digest=str(manifest.model.get("weights_digest", "")),
        command=manifest.command_again,
        thresholds=thresholds.origin,
        thresholds_digest=thresholds.digest,
        ledger=Ledger(
            expected=manifest.expected,
            compared=columns.words["mode"].count(ACCUMULATED),
            skipped=manifest.skipped,
            allowed=len(allowed),
            failed=len({miss.key for miss in misses}),
            excused=excused,
            unpaired=len(manifest.unpaired),
            set_aside=limits.set_aside,
        ),
        objections=tuple(objected),
        misses=misses,
        worst=tuple(_worst_values(columns, limits)),
    )


def only(result: GateResult, boundaries: Sequence[str]) -> GateResult:
    """The same about boundaries that one of these patterns names; the ledger is that of the whole run.

    Raises ThresholdError for a pattern that names nothing.
    """
    known = dict.fromkeys(worst.boundary for worst in result.worst)
    for pattern in boundaries if known else ():
        if not any(names(pattern, boundary) for boundary in known):
            raise ThresholdError(f"{pattern} names no boundary of {result.run}; {nearest(pattern, known)}")
    named = {boundary for boundary in known if any(names(pattern, boundary) for pattern in boundaries)}
    misses = tuple(miss for miss in result.misses if miss.key.boundary in named)
    ledger = replace(result.ledger, failed=len({miss.key for miss in misses}))
    return replace(
        result, ledger=ledger, misses=misses, worst=tuple(worst for worst in result.worst if worst.boundary in named)
    )


@dataclass(frozen=True)
class _Suspect:
    """A limit of a record that its number does not hold. `threshold` is the number of that which set it."""

    row: int
    metric: str
    value: float
    limit: float
    threshold: int


def _judged(
    run: Path, thresholds: Thresholds, columns: RecordColumns, limits: AppliedLimits
) -> tuple[tuple[Miss, ...], int]:
    """The misses in the order of execution, and how many records are excused by their floor."""
    verdicts = columns.words["verdict"]
    suspects = [each for each in _suspects(columns, limits) if verdicts[each.row] != SHAPE_MISMATCH]
    of_slope = {columns.key(each.row) for each in suspects if each.metric == "slope"}
    profiles = profiles_of(run, of_slope)
    missed: list[tuple[int, str, float, float, str, str]] = []
    excused = set()
    for each in suspects:
        says = _missed(columns, each, profiles)
        if not says:
            continue
        threshold = thresholds.thresholds[each.threshold]
        if threshold.floor_excuses and _explained(columns, each.row):
            excused.add(each.row)
        else:
            missed.append((each.row, each.metric, each.value, each.limit, says, threshold.place))
    judged_modes = {threshold.mode for threshold in thresholds.thresholds}
    for row, verdict in enumerate(verdicts):
        if verdict in (NONFINITE, SHAPE_MISMATCH) and columns.words["mode"][row] in judged_modes:
            missed.append((row, verdict, math.nan, math.nan, columns.words["note"][row] or verdict, ""))
    missed.sort(key=lambda miss: miss[0])
    shown = dict.fromkeys(columns.key(row) for row, *_ in missed[:_PLACES_GIVEN])
    profiles |= profiles_of(run, shown.keys() - profiles.keys())
    return tuple(
        Miss(
            columns.key(row),
            metric,
            value,
            limit,
            says,
            f"{columns.words['module'][row]}, beside {columns.words['reference_path'][row]}",
            place,
            _where(columns, row, profiles.get(columns.key(row))),
        )
        for row, metric, value, limit, says, place in missed
    ), len(excused - {row for row, *_ in missed})


def _suspects(columns: RecordColumns, limits: AppliedLimits) -> list[_Suspect]:
    found = []
    for metric, limit in limits.limits.items():
        values = columns.metric(metric)
        with np.errstate(invalid="ignore"):
            rows = np.flatnonzero(~np.isnan(limit) & ~METRICS[metric].side.holds(values, limit))
        sources = limits.sources[metric]
        found += [_Suspect(int(row), metric, float(values[row]), float(limit[row]), int(sources[row])) for row in rows]
    return sorted(found, key=lambda suspect: suspect.row)


def _missed(columns: RecordColumns, suspect: _Suspect, profiles: Mapping[Key, Mapping[str, Any]]) -> str:
    """The sentence for a limit that is missed, "" where it holds after all.

    A constant reference has no pcc and a zero reference no slope: their error is judged instead, as in
    `Comparison.failures`. A slope that a few elements spoil, which are a massive activation's, is judged without them.
    """
    row, metric, limit = suspect.row, suspect.metric, suspect.limit
    note, rel_l2 = columns.words["note"][row], float(columns.numbers["rel_l2"][row])
    side = METRICS[metric].side
    instead = None
    if metric == "pcc" and CONSTANT_REFERENCE in note:
        instead = rel_l2_instead_of(limit)
    elif metric == "slope" and ZERO_REFERENCE in note:
        instead = 0.0
    if instead is not None:
        holds = rel_l2 <= instead
        return "" if holds else f"{METRICS['rel_l2'].side.says('rel_l2', rel_l2, instead)}, which stands for {metric}"
    if metric == "slope" and (profile := profiles.get(columns.key(row))) and rel_l2 > 0:
        norm = float(columns.numbers["rmse"][row]) * math.sqrt(columns.counts["elements"][row]) / rel_l2
        if abs(core_slope(suspect.value, norm, profile["worst"]) - 1) <= limit:
            return ""
    because = f" ({note})" if math.isnan(suspect.value) and note else ""
    return side.says(metric, suspect.value, limit) + because


def _explained(columns: RecordColumns, row: int) -> bool:
    floor = float(columns.numbers["floor_rel_l2"][row])
    return float(columns.numbers["rel_l2"][row]) <= explained_by_floor(floor, columns.counts["tokens"][row])


def _where(columns: RecordColumns, row: int, profile: Mapping[str, Any] | None) -> str:
    """The worst token, and the greatest error with its place where a profile was kept."""
    token, tokens, parts = columns.counts["worst_token"][row], columns.counts["tokens"][row], []
    if token >= 0 and tokens > 1:
        pcc = float(columns.numbers["worst_token_pcc"][row])
        parts.append(f"worst token {token} of {tokens} (pcc {pcc:.4g})")
    if profile and profile["worst"]:
        at, reference, port = profile["worst"][0]
        parts.append(f"greatest error at {at}: reference {reference:.5g}, port {port:.5g}")
    return "; ".join(parts)


def _worst_values(columns: RecordColumns, limits: AppliedLimits) -> Iterator[WorstValue]:
    """Of each boundary, phase and metric that is limited the worst value, nan worse than any."""
    boundaries, boundary_codes = columns.coded("boundary")
    phases, phase_codes = columns.coded("phase")
    codes = boundary_codes * max(len(phases), 1) + phase_codes
    for metric, limit in limits.limits.items():
        values = columns.metric(metric)
        badness = METRICS[metric].side.badness(values)
        badness[np.isnan(badness)] = np.inf
        limited = np.flatnonzero(~np.isnan(limit))
        order = limited[np.lexsort((badness[limited], codes[limited]))]
        last = np.flatnonzero(np.diff(codes[order], append=-1))
        for row in order[last]:
            boundary, phase = boundaries[boundary_codes[row]], phases[phase_codes[row]]
            yield WorstValue(boundary, phase, metric, float(values[row]), float(limit[row]))
