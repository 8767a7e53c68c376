# SPDX-License-Identifier: Apache-2.0
"""The search: which change of a module's mathematics gives what the port gave."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.analysis.hypotheses.catalogue import CATALOGUE, WHERE_NONE_FITS, Source
from tttdebug.analysis.hypotheses.bench import Bench, Trial
from tttdebug.analysis.hypotheses.hypothesis import NOTHING, Hypothesis

if TYPE_CHECKING:
    from tttdebug.analysis.module_call import ModuleCall

NEAREST = 5  # candidates that are kept where none is confirmed
ALIKE = 1.1  # errors nearer to each other than this factor do not choose between two explanations
_HELPS = 0.9  # a change is worth combining when it takes at least a tenth of the error away
_COMBINED = 3  # how many of the nearest are combined with all others


@dataclass(frozen=True)
class Diagnosis:
    """What the search found: the explanations that reach the floor, best first, and what came nearest.

    `before` is the error against the mathematics as it should be, `floor` what number formats leave of it.
    """

    confirmed: tuple[Trial, ...]
    nearest: tuple[Trial, ...]
    before: float
    floor: float


def search(call: ModuleCall, *, combine: bool = True, budget_seconds: float | None = None) -> Diagnosis:
    """Try every change that the module's spec allows, and say which of them gives what the port gave.

    With `combine`, pairs of changes are tried where no single one reaches the floor. `budget_seconds` ends the search
    after the trial during which it runs out. Nothing is confirmed where the port is at the floor already.
    Raises WeightsError for a call without a weight that its spec needs.
    """
    deadline = float("inf") if budget_seconds is None else time.monotonic() + budget_seconds
    bench = Bench(call)
    if bench.is_at_floor or not bench.before < float("inf"):
        return Diagnosis((), (), bench.before, bench.floor)
    trials = _singles(bench, CATALOGUE, deadline)
    if not any(trial.at_floor for trial in trials):
        trials += _singles(bench, WHERE_NONE_FITS, deadline)
    if combine and not any(trial.at_floor for trial in trials):
        trials += _pairs(bench, trials, deadline)
    ranked = sorted(trials, key=lambda trial: trial.rel_l2)
    confirmed = _simplest_first([trial for trial in ranked if trial.at_floor])
    nearest = [trial for trial in ranked if not trial.at_floor and trial.rel_l2 < bench.before]
    return Diagnosis(tuple(confirmed), tuple(nearest[:NEAREST]), bench.before, bench.floor)


def _singles(bench: Bench, sources: Sequence[Source], deadline: float) -> list[Trial]:
    trials = []
    for source in sources:
        for change in source(bench):
            if time.monotonic() > deadline:
                return trials
            trials.append(bench.attempt(NOTHING.plus(change)))
    return trials


def _pairs(bench: Bench, singles: list[Trial], deadline: float) -> list[Trial]:
    """The nearest changes, each with every other, until one pair reaches the floor."""
    ranked = sorted(singles, key=lambda trial: trial.rel_l2)
    helping = [trial for trial in ranked if trial.rel_l2 < _HELPS * bench.before and not trial.hypothesis.localises]
    trials: list[Trial] = []
    for first in helping[:_COMBINED]:
        for second in singles:
            if second.cause == first.cause or second.hypothesis.localises or time.monotonic() > deadline:
                continue
            pair = Hypothesis((*first.hypothesis.changes, *second.hypothesis.changes))
            trials.append(bench.attempt(pair))
        if any(trial.at_floor for trial in trials):
            break
    return trials


def _simplest_first(confirmed: list[Trial]) -> list[Trial]:
    """Explanations that the error does not choose between go by how few numbers are fitted in them.

    A fitted one is left out where the same cause explains the error without.
    """
    if not confirmed:
        return []
    least = min(trial.rel_l2 for trial in confirmed)

    def order(trial: Trial) -> tuple[bool, bool, int, float]:
        return trial.hypothesis.localises, trial.rel_l2 > ALIKE * least, trial.hypothesis.fitted, trial.rel_l2

    simplest: dict[str, Trial] = {}
    for trial in sorted(confirmed, key=order):
        simplest.setdefault(trial.cause, trial)
    return [
        trial
        for trial in sorted(confirmed, key=order)
        if trial is simplest[trial.cause] or trial.hypothesis.fitted == 0
    ]
