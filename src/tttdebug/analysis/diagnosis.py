# SPDX-License-Identifier: Apache-2.0
"""From modules at fault to findings: experiments on their calls, the place of the error, the change that mends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from tttdebug.analysis.cache_layout import cache_finding
from tttdebug.analysis.examination import Examination
from tttdebug.analysis.finding import Candidate, Experiment, Finding
from tttdebug.analysis.hypotheses import NOTHING, Trial, rel_l2, search
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.analysis.where import Location, locate
from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.record import Key
from tttdebug.tracking.subject import Subject

Progress = Callable[[str, "float | None"], None]
SECONDS_OF_A_SEARCH, CANDIDATES = 20.0, 3
CLEARLY, SMALL = 0.5, 0.05
"""A cause explains another call where it takes half of its error away, or leaves little."""

EXPERIMENTED_OF_A_KIND = 4
"""Of more modules of one kind at fault, all layers say, the causes of the first ones stand for the others'."""


def diagnose(found: Examination, subject: Subject, progress: Progress) -> list[Finding]:
    """A finding for each module at fault, the greatest error first; layers that share a cause are one finding."""
    holders = {pair.boundary: pair.after for pair in subject.caches}
    at_fault: dict[str, list[Key]] = {}
    for boundary, keys in found.at_fault.items():
        at_fault.setdefault(holders.get(boundary, boundary), []).extend(keys)
    findings: list[Finding] = []
    tried: dict[str, int] = {}
    for boundary, keys in at_fault.items():
        progress(f"what is wrong with {boundary}", None)
        kind = kind_of(boundary)
        tried[kind] = tried.get(kind, 0) + 1
        calls = found.calls.get(boundary, [])
        alike = next((finding for finding in findings if kind_of(finding.boundary) == kind), None)
        if tried[kind] > EXPERIMENTED_OF_A_KIND and alike is not None:
            findings[findings.index(alike)] = _also_in(alike, boundary, keys)
            continue
        findings.append(_finding(boundary, keys, calls, found))
    return sorted(_merged(findings), key=lambda finding: _severity(finding, found), reverse=True)


def _finding(boundary: str, keys: Sequence[Key], calls: Sequence[ModuleCall], found: Examination) -> Finding:
    worst = max(keys, key=lambda key: _above(key, found))
    error = found.errors[worst]
    if not calls:
        return Finding(
            boundary,
            "unknown",
            f"the module errs alone: rel_l2 {error.comparison.rel_l2:.3g}, {error.unexplained:.3g} of it unexplained",
            records=tuple(keys),
        )
    call = calls[0]
    if all(key.boundary != boundary for key in keys) and (layout := cache_finding(boundary, keys, call)) is not None:
        return layout
    diagnosis = search(call, budget_seconds=SECONDS_OF_A_SEARCH)
    explained = [trial for trial in diagnosis.confirmed if _holds(trial, calls[1:])]
    others = [trial for trial in (*diagnosis.confirmed, *diagnosis.nearest) if trial not in explained[:1]]
    best = explained[0] if explained else None
    says = f"its own rel_l2 is {error.comparison.rel_l2:.3g} where its formats explain {error.floor:.3g}"
    return Finding(
        boundary=boundary,
        cause=best.cause if best else "unknown",
        says=best.says if best else f"{says}; no experiment brings it to the floor",
        module=call.module,
        reference_path=call.reference_path,
        experiments=(best.experiment, *_repeated(best, calls[1:])) if best else (),
        fix=best.fix if best else None,
        where=_location(call).sentences(),
        candidates=tuple(Candidate(trial.cause, trial.says, trial.rel_l2) for trial in others[:CANDIDATES]),
        records=tuple(keys),
    )


def _holds(trial: Trial, calls: Sequence[ModuleCall]) -> bool:
    """Whether a cause found on one call explains the module's other calls: none of them is left as it was."""
    if trial.hypothesis.localises:
        return True
    return all(after <= max(CLEARLY * before, SMALL) for before, after in _errors(trial, calls))


def _errors(trial: Trial, calls: Sequence[ModuleCall]) -> list[tuple[float, float]]:
    """For each call the error against the module as it should be, and against it with the cause in it."""
    return [
        (
            rel_l2(call.port_TC.float(), NOTHING.predict(call)),
            rel_l2(call.port_TC.float(), trial.hypothesis.predict(call)),
        )
        for call in calls
    ]


def _repeated(trial: Trial, calls: Sequence[ModuleCall]) -> tuple[Experiment, ...]:
    """The same cause tried on the module's other calls."""
    if trial.hypothesis.localises:
        return ()
    return tuple(
        Experiment(f"the same in {call.key.phase} {call.key.step}", before, after, call.floor_rel_l2)
        for call, (before, after) in zip(calls, _errors(trial, calls), strict=True)
    )


def _location(call: ModuleCall) -> Location:
    """Where in the module's output the error sits."""
    constants = {"a tile": 32, "a page of 64": 64, "a chunk of 128": 128}
    if (window := getattr(call.spec, "sliding_window", None)) is not None:
        constants["the sliding window"] = window
    return locate(
        call.reference_TC,
        call.port_TC,
        floor_rel_l2=call.floor_rel_l2,
        constants=constants,
        start=int(call.positions_T[0]),
    )


def _also_in(finding: Finding, boundary: str, keys: Sequence[Key]) -> Finding:
    return replace(finding, records=(*finding.records, *keys), where=(*finding.where, f"also at fault: {boundary}"))


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Layers that share kind, cause and sentence as one finding at the first of them."""
    merged: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        key = (kind_of(finding.boundary), finding.cause, finding.says)
        if key in merged:
            merged[key] = _also_in(merged[key], finding.boundary, finding.records)
        else:
            merged[key] = finding
    return list(merged.values())


def _severity(finding: Finding, found: Examination) -> float:
    return max((_above(key, found) for key in finding.records if key in found.errors), default=0.0)


def _above(key: Key, found: Examination) -> float:
    """The own error of a record in units of its limit; what is not finite is above all."""
    error = found.errors[key]
    ratio = error.unexplained / error.limit if error.limit > 0 else math.inf
    return ratio if math.isfinite(ratio) else math.inf
