# SPDX-License-Identifier: Apache-2.0
"""Baselines: the errors that no later run may exceed, who set them, when and why; tightened by what got better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from difflib import unified_diff

from tttdebug.errors import BaselineError
from tttdebug.testing.comparing import entry_of, explained_by_noise, most_noise
from tttdebug.testing.side import Side, Subject, refuse_incomparable
from tttdebug.testing.standing import Place, Standing, change, severity, worst_of
from tttdebug.tracking.gates import kind_of


@dataclass(frozen=True)
class Entry:
    """One time that limits were set: by whom, on which day, and why."""

    by: str
    on: date
    why: str


@dataclass(frozen=True)
class Limit:
    """What a boundary may not exceed in a phase, and which entry of the history set it, counted from 1."""

    standing: Standing
    since: int


@dataclass(frozen=True)
class Baseline:
    """What a baseline file holds."""

    subject: Subject
    environment: Mapping[str, str]
    history: tuple[Entry, ...]
    limits: Mapping[Place, Limit]

    def side(self, name: str) -> Side:
        """What a run is compared with."""
        return Side(
            name, self.subject, self.environment, {place: limit.standing for place, limit in self.limits.items()}
        )


def baseline_of(run: Side, entry: Entry, *, patterns: bool = False) -> Baseline:
    """A new baseline out of a run: a limit a boundary and phase, with `patterns` one for a kind's layers together."""
    standings: dict[Place, list[Standing]] = {}
    for place, standing in _accumulated(run).items():
        kind = kind_of(place.boundary)
        layered = patterns and kind != place.boundary and "#" not in place.boundary
        standings.setdefault(replace(place, boundary=f"L*.{kind}") if layered else place, []).append(standing)
    limits = {place: Limit(worst_of(each), 1) for place, each in standings.items()}
    return Baseline(run.subject, run.environment, (entry,), limits)


def updated(baseline: Baseline, run: Side, entry: Entry, *, loosen: bool = False) -> Baseline:
    """The baseline with what a run says: limits that it is better than, beyond the noise, are tightened, and boundaries
    that are new get one. What it is worse than is kept; with `loosen` every limit becomes what the run gives, and
    those of boundaries that it does not compare are dropped. The same baseline where nothing changes.

    Raises ComparisonError for a run of another model or other prompts, BaselineError where `loosen` has no why.
    """
    if loosen and not entry.why:
        raise BaselineError("limits are loosened for a reason only: say it with --why")
    refuse_incomparable(run, baseline.side("the baseline"))
    since = len(baseline.history) + 1
    now = _by_limit(baseline, _accumulated(run))
    limits: dict[Place, Limit] = {}
    for place in (*baseline.limits, *(place for place in now if place not in baseline.limits)):
        limit, standing = baseline.limits.get(place), now.get(place)
        if limit is None and standing is not None:
            limits[place] = Limit(standing, since)
        elif limit is not None and standing is None:
            if not loosen:
                limits[place] = limit
        elif limit is not None and standing is not None:
            settled = _settled(place.phase, limit.standing, standing, loosen)
            limits[place] = limit if settled == limit.standing else Limit(settled, since)
    if limits == baseline.limits:
        return baseline
    return Baseline(run.subject, run.environment, (*baseline.history, entry), limits)


def diff(before: str, after: str, name: str) -> str:
    """What an update changes in a baseline's text, as a unified diff that `patch` and `git apply` take."""
    lines = unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}", n=1
    )
    return "".join(lines)


def _accumulated(run: Side) -> dict[Place, Standing]:
    """What a gate looks at: an explanation's experiments are not made in every run."""
    return {place: standing for place, standing in run.standings.items() if place.mode == "accumulated"}


def _by_limit(baseline: Baseline, standings: Mapping[Place, Standing]) -> dict[Place, Standing]:
    """What a run gives for every limit of a baseline, and for every boundary that has none."""
    limits = {place: limit.standing for place, limit in baseline.limits.items()}
    held: dict[Place, list[Standing]] = {}
    for place, standing in standings.items():
        entry = entry_of(place, limits)
        held.setdefault(place if entry is None else entry, []).append(standing)
    return {place: worst_of(each) for place, each in held.items()}


def _settled(phase: str, limit: Standing, run: Standing, loosen: bool) -> Standing:
    """The limit after a run: each number tightened where the run is better than it by more than the noise."""
    if loosen:
        return run
    explained = explained_by_noise(most_noise(phase), min(limit.calls, run.calls))
    mended = severity(run.verdict) < 2 <= severity(limit.verdict)
    if change(limit.rel_l2, run.rel_l2) >= -explained and not mended:
        return limit
    return Standing(
        min(limit.rel_l2, run.rel_l2),
        min(limit.worst, run.worst),
        max(limit.calls, run.calls),
        min(limit.verdict, run.verdict, key=severity),
    )
