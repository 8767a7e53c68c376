# SPDX-License-Identifier: Apache-2.0
"""From modules at fault to findings: experiments on their calls, the place of the error, the change that mends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tttdebug.analysis.cache_layout import cache_finding
from tttdebug.analysis.consensus import Consensus, consensus
from tttdebug.analysis.examination import Examination
from tttdebug.analysis.finding import Candidate, Finding
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.analysis.special.outliers import outlier_channels
from tttdebug.analysis.users import swapped_users
from tttdebug.analysis.where import Location, locate
from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.record import Key
from tttdebug.tracking.subject import Subject

Progress = Callable[[str, "float | None"], None]
CANDIDATES = 3
MOST = 0.5
"""The share of an error from which a single channel is worth naming."""

EXPERIMENTED_OF_A_KIND = 4
"""Of more modules of one kind at fault, all layers say, the causes of the first ones stand for the others'."""


def diagnose(found: Examination, subject: Subject, progress: Progress, known: Sequence[Finding] = ()) -> list[Finding]:
    """A finding for each module at fault, the greatest error first; layers that share a cause are one finding.

    Of modules that are `known` to have one nothing more is sought.
    """
    holders = {pair.boundary: pair.after for pair in subject.caches}
    at_fault: dict[str, list[Key]] = {}
    for boundary, keys in found.at_fault.items():
        at_fault.setdefault(holders.get(boundary, boundary), []).extend(keys)
    findings, told = list(known), {finding.boundary for finding in known}
    tried: dict[str, int] = {}
    for boundary, keys in at_fault.items():
        progress(f"what is wrong with {boundary}", None)
        kind = kind_of(boundary)
        tried[kind] = tried.get(kind, 0) + 1
        if boundary in told:
            continue
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
    if any(key.boundary != boundary for key in keys) and (layout := cache_finding(boundary, keys, call)) is not None:
        return layout
    calls = [call for call in calls if call.key in keys] or calls  # not those of which a cache alone is wrong
    call = calls[0]
    if (swapped := swapped_users(calls)) is not None:
        return replace(swapped, records=tuple(keys))
    heard = consensus(calls, decode_alone=all(key.phase == "decode" for key in keys))
    about: dict[str, Any] = {
        "boundary": boundary,
        "module": call.module,
        "reference_path": call.reference_path,
        "where": (*_location(call).sentences(), *_outliers(call)),
        "candidates": tuple(_candidates(heard)),
        "records": tuple(keys),
    }
    if not heard.agreed:
        says = f"its own rel_l2 is {error.comparison.rel_l2:.3g} where its formats explain {error.floor:.3g}"
        return Finding(cause="unknown", says=f"{says}; no experiment brings it to the floor", **about)
    best = heard.agreed[0]
    says = f"{best.trial.says} in decode" if call.key.phase == "decode" else best.trial.says
    return Finding(cause=best.trial.cause, says=says, experiments=best.experiments, fix=best.trial.fix, **about)


def _candidates(heard: Consensus) -> Iterator[Candidate]:
    """What else explains the error, then what came nearest: of each cause once."""
    named = {heard.agreed[0].trial.cause} if heard.agreed else set()
    for trial in (*(agreed.trial for agreed in heard.agreed), *heard.nearest):
        if trial.cause not in named and len(named) <= CANDIDATES:
            named.add(trial.cause)
            yield Candidate(trial.cause, trial.says, trial.rel_l2)


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


def _outliers(call: ModuleCall) -> tuple[str, ...]:
    """The massive activation that makes most of the error, where one does: it is no matter of where, but of size."""
    if not bool(call.port_TC.isfinite().all()):
        return ()
    channels = outlier_channels(call.reference_TC, call.port_TC)
    return tuple(str(channel) for channel in channels[:1] if channel.share_of_error > MOST)


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
