# SPDX-License-Identifier: Apache-2.0
"""The search: which change of a module's mathematics gives what the port gave."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.analysis.hypotheses.bench import FEW_TOKENS, OF_NUMBERS, Bench, Trial
from tttdebug.analysis.hypotheses.catalogue import STAGES
from tttdebug.analysis.hypotheses.hypothesis import NOTHING, Change, Hypothesis

if TYPE_CHECKING:
    from tttdebug.analysis.module_call import ModuleCall

NEAREST = 5  # candidates that are kept where none is confirmed
ALIKE = 1.25  # errors nearer to each other than this factor do not choose between two explanations
_HELPS = 0.9  # a change is worth combining when it takes at least a tenth of the error away
_COMBINED = 3  # how many of the nearest are combined with all others
_ATTEMPTED = 8  # how many of each stage are tried on all tokens, if they come near the best on a few: within a factor
_FARTHER = 3.0
_SHOWN = 2  # or are among the best so many anyway


@dataclass(frozen=True)
class Diagnosis:
    """What the search found: the explanations that reach the floor, best first, and what came nearest.

    `before` is the error against the mathematics as it should be, `floor` what number formats leave of it.
    """

    confirmed: tuple[Trial, ...]
    nearest: tuple[Trial, ...]
    before: float
    floor: float


def search(
    call: ModuleCall, *, combine: bool = True, budget_seconds: float | None = None, at_fault: bool = False
) -> Diagnosis:
    """Try every change that the module's spec allows, and say which of them gives what the port gave.

    With `combine`, pairs of changes are tried where no single one reaches the floor, unless so few tokens are there
    that some pair always does. `budget_seconds` ends the search after the trial during which it runs out. Nothing is
    confirmed where the port is at the floor already, unless `at_fault` says that the module is known to err by a finer
    measure than the call's floor.
    Raises WeightsError for a call without a weight that its spec needs.
    """
    deadline = float("inf") if budget_seconds is None else time.monotonic() + budget_seconds
    bench = Bench.of(call, at_fault=at_fault)
    if not bench.before < float("inf") or bench.is_at_floor:
        return Diagnosis((), (), bench.before, bench.floor)
    tried = _Tried(bench, deadline)
    for stage in STAGES:
        tried.changes(change for source in stage for change in source(bench))
        if tried.confirmed:
            break
    if combine and not tried.confirmed and len(call.port_TC) >= FEW_TOKENS:
        tried.pairs()
    return Diagnosis(
        tuple(_simplest_first(tried.confirmed, len(call.port_TC))), tuple(tried.nearest), bench.before, bench.floor
    )


class _Tried:
    """What was tried on one bench: every change on a sketch of it, and the most promising ones on the whole."""

    def __init__(self, bench: Bench, deadline: float) -> None:
        self.bench, self.deadline = bench, deadline
        self._trials: list[tuple[int, Trial]] = []
        self._sketched: list[_Sketched] = []

    @property
    def confirmed(self) -> list[Trial]:
        """Those that reach the floor, in the order of the catalogue."""
        in_order = sorted(self._trials, key=lambda entry: entry[0])
        return [trial for _, trial in in_order if trial.at_floor]

    @property
    def nearest(self) -> list[Trial]:
        """Of each cause the best that does not reach the floor."""
        ranked = sorted((trial for _, trial in self._trials), key=lambda trial: trial.rel_l2)
        of_cause: dict[str, Trial] = {}
        for trial in ranked:
            if not trial.at_floor and trial.rel_l2 < self.bench.before:
                of_cause.setdefault(trial.cause, trial)
        return list(of_cause.values())[:NEAREST]

    def changes(self, changes: Iterable[Change]) -> None:
        """Try these changes, each alone."""
        promising: list[_Sketched] = []
        for change in changes:
            if time.monotonic() > self.deadline:
                break
            hypothesis = NOTHING.plus(change)
            if change.is_of_output:
                error = self._attempt(hypothesis, len(self._sketched))
            else:
                error = self.bench.sketch.error(change)
                promising.append(_Sketched(hypothesis, error, len(self._sketched)))
            self._sketched.append(_Sketched(hypothesis, error, len(self._sketched)))
        self._attempt_best(promising)

    def pairs(self) -> None:
        """The nearest changes, each with every other, until one pair reaches the floor."""
        alone = [entry for entry in self._sketched if not entry.hypothesis.of_tokens]
        helping = [entry for entry in alone if entry.error < _HELPS * self.bench.sketch.before]
        for first in sorted(helping, key=lambda entry: entry.error)[:_COMBINED]:
            promising = []
            for second in alone:
                if not _may_go_together(first, second) or time.monotonic() > self.deadline:
                    continue
                pair = Hypothesis((*first.hypothesis.changes, *second.hypothesis.changes))
                promising.append(_Sketched(pair, self.bench.sketch.error(*pair.changes), second.order))
            self._attempt_best(promising)
            if self.confirmed:
                return

    def _attempt_best(self, sketched: Sequence[_Sketched]) -> None:
        """Try the best of the sketched on the whole."""
        ranked = sorted(sketched, key=lambda entry: entry.error)[:_ATTEMPTED]
        for place, entry in enumerate(entry for entry in ranked if entry.error < math.inf):
            if place < _SHOWN or entry.error <= max(_FARTHER * ranked[0].error, self.bench.floor):
                self._attempt(entry.hypothesis, entry.order)

    def _attempt(self, hypothesis: Hypothesis, order: int) -> float:
        trial = self.bench.attempt(hypothesis)
        self._trials.append((order, trial))
        return trial.rel_l2


@dataclass(frozen=True)
class _Sketched:
    """A hypothesis with the error that it leaves on the sketch, and its place among all that were tried."""

    hypothesis: Hypothesis
    error: float
    order: int


def _may_go_together(first: _Sketched, second: _Sketched) -> bool:
    """Causes of numbers are too small to stand out beside others."""
    causes = (first.hypothesis.cause, second.hypothesis.cause)
    return causes[0] != causes[1] and (causes[0] in OF_NUMBERS) == (causes[1] in OF_NUMBERS)


def _simplest_first(confirmed: Sequence[Trial], tokens: int) -> list[Trial]:
    """The best first; of those that the error does not choose between, the one with the fewest fitted numbers, then the
    one that was tried first.

    Numbers that are fitted to few tokens say little, so there what needs none comes before. What only says where the
    error sits comes last.
    """
    if not confirmed:
        return []
    least = min(trial.rel_l2 for trial in confirmed)

    def rank(trial: Trial) -> tuple[bool, bool, float, int]:
        fitted = trial.hypothesis.fitted
        says_little = tokens < FEW_TOKENS and fitted > 0
        return trial.hypothesis.localises, says_little, _worse(trial.rel_l2, least), fitted

    return sorted(confirmed, key=rank)


def _worse(rel_l2: float, least: float) -> float:
    """0 for an error that is alike the least, else the error."""
    return 0.0 if rel_l2 <= ALIKE * least else rel_l2
