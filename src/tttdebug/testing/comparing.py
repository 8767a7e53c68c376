# SPDX-License-Identifier: Apache-2.0
"""A run beside an earlier one or a baseline file: what got better, worse, appeared and vanished, beyond the noise."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from statistics import median
from typing import Literal

from tttdebug.testing.side import Difference, Side, differences, refuse_incomparable
from tttdebug.testing.standing import Calls, Measured, Place, Standing, change, severity, standing_of
from tttdebug.tracking.gates import kind_of

Kind = Literal["worse", "vanished", "better", "appeared", "same"]
LEAST = 0.02  # of ln rel_l2: smaller changes never count
# How ln rel_l2 of one call scatters where the same roundings fall otherwise (benchmarks/change_scatter.py): what is
# assumed where it cannot be measured, and the most that is believed where a fault may have scattered it.
MOST_NOISE = {"prefill": 0.06, "decode": 0.15}
_OF_A_MEDIAN, _OF_ONE_CALL = 4.0, 6.0  # so many deviations are beyond chance; there are many calls
_ERROR_OF_MEDIAN = math.sqrt(math.pi / 2)  # standard error of a median over that of a mean
_DEVIATION_OF_MAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
_FEWEST = 3  # calls of a boundary that tell how they scatter


@dataclass(frozen=True)
class CallChange:
    """One call of a boundary that stands out among its calls, or whose verdict changed for better or worse."""

    kind: Literal["worse", "better"]
    step: int
    user: int
    before: Measured
    after: Measured


@dataclass(frozen=True)
class Change:
    """What became of one boundary in one phase. `factor` is its rel_l2 after over before, `noise_factor` how much of
    that its noise explains; both nan where there is but one side. `why` says what made it `kind`.
    """

    kind: Kind
    place: Place
    before: Standing | None
    after: Standing | None
    factor: float
    noise_factor: float
    why: str
    calls: tuple[CallChange, ...] = ()

    @property
    def verdict_changed(self) -> bool:
        return self.before is not None and self.after is not None and self.before.verdict != self.after.verdict


@dataclass(frozen=True)
class Comparison:
    """A run against a baseline: what differs around the numbers, and every boundary, the worst change first."""

    run: str
    baseline: str
    differences: tuple[Difference, ...]
    changes: tuple[Change, ...]

    def of_kind(self, *kinds: Kind) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind in kinds)

    @property
    def got_worse(self) -> bool:
        """Whether anything is worse, or was compared before and no longer is."""
        return bool(self.of_kind("worse", "vanished"))


_ORDER: tuple[Kind, ...] = ("worse", "vanished", "better", "appeared", "same")


def compare_sides(run: Side, baseline: Side) -> Comparison:
    """A run held against an earlier run or a baseline file; `run` itself is none.

    The noise of one call is the scatter of ln(rel_l2 after / before) over the calls of a phase, that is over prompts,
    users and decode steps, about each boundary's own median, of all boundaries of a kind together (1.4826 × the
    median absolute deviation), at most `MOST_NOISE`; that itself for a file, which has no single calls, and where no
    boundary has 3. A boundary is worse (better) where the median over its n calls changed by more than 2 % and
    4 × 1.25 × noise / √n; where one call changed by more than 6 × noise; or where a gate that held, or was missed by no
    more than the number formats explain, is now missed. Modes that only one side holds, isolated ones say, are left
    out.

    Raises ComparisonError where the two are of other models or prompts.
    """
    refuse_incomparable(run, baseline)
    modes = {place.mode for place in run.standings} & {place.mode for place in baseline.standings}
    after = {place: standing for place, standing in run.standings.items() if place.mode in modes}
    before = {place: standing for place, standing in baseline.standings.items() if place.mode in modes}
    changes = _of_runs(run.calls, baseline.calls, before, after) if baseline.calls else _of_file(before, after)
    ranked = sorted(changes, key=lambda each: (_ORDER.index(each.kind), -_weight(each), each.place))
    return Comparison(run.name, baseline.name, differences(run, baseline), tuple(ranked))


def _of_runs(
    run: Mapping[Place, Calls],
    baseline: Mapping[Place, Calls],
    before: Mapping[Place, Standing],
    after: Mapping[Place, Standing],
) -> Iterator[Change]:
    """Every boundary of two runs: calls that both hold are compared one by one and together."""
    changes_of = {place: _changes(run[place], baseline[place]) for place in before if place in after}
    noises = _noises(changes_of)
    for place in (*before, *(place for place in after if place not in before)):
        changes = changes_of.get(place)
        if not changes:
            yield _one_sided(place, before.get(place), None if place in before else after[place])
            continue
        gone, new = len(baseline[place]) - len(changes), len(run[place]) - len(changes)
        then = standing_of({at: baseline[place][at] for at in changes}) if gone else before[place]
        now = standing_of({at: run[place][at] for at in changes}) if new else after[place]
        noise = noises[_kind(place)]
        calls = tuple(_single_calls(run[place], baseline[place], changes, noise))
        yield _judged(place, then, now, median(changes.values()), noise, calls, gone, new)


def _changes(run: Calls, baseline: Calls) -> dict[tuple[int, int], float]:
    """The change of ln rel_l2 in every call that both sides hold."""
    return {at: change(before.rel_l2, run[at].rel_l2) for at, before in baseline.items() if at in run}


def _noises(changes_of: Mapping[Place, Mapping[tuple[int, int], float]]) -> dict[tuple[str, str, str], float]:
    """The noise of one call, for every kind of boundary in every phase and mode."""
    deviations: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for place, changes in changes_of.items():
        finite = [each for each in changes.values() if math.isfinite(each)]
        middle = median(finite) if len(finite) >= _FEWEST else 0.0
        deviations[_kind(place)] += [abs(each - middle) for each in finite if len(finite) >= _FEWEST]
    return {
        kind: min(most_noise(kind[1]), _DEVIATION_OF_MAD * median(each)) if each else most_noise(kind[1])
        for kind, each in deviations.items()
    }


def _of_file(before: Mapping[Place, Standing], after: Mapping[Place, Standing]) -> Iterator[Change]:
    """Every boundary of a run beside the entry of a baseline file that names it, or whose pattern fits it."""
    found = {place: entry for place in after if (entry := entry_of(place, before)) is not None}
    for place, standing in after.items():
        if place not in found:
            yield _one_sided(place, None, standing)
            continue
        then = before[found[place]]
        gone, new = max(0, then.calls - standing.calls), max(0, standing.calls - then.calls)
        middle, noise = change(then.rel_l2, standing.rel_l2), most_noise(place.phase)
        judged = _judged(place, then, standing, middle, noise, (), gone, new)
        if found[place] != place and judged.kind not in ("worse", "vanished"):  # a pattern holds the worst that it fits
            then = replace(then, verdict=standing.verdict)
            judged = Change("same", place, then, standing, judged.factor, judged.noise_factor, "")
        yield judged
    for entry in before.keys() - set(found.values()):
        yield _one_sided(entry, before[entry], None)


def entry_of(place: Place, entries: Mapping[Place, Standing]) -> Place | None:
    """The entry of a baseline file that a boundary is held to: its own, else the longest pattern that fits it."""
    if place in entries:
        return place
    fitting = [
        entry
        for entry in entries
        if (entry.phase, entry.mode) == (place.phase, place.mode) and fnmatchcase(place.boundary, entry.boundary)
    ]
    return max(fitting, key=lambda entry: len(entry.boundary), default=None)


def explained_by_noise(noise: float, calls: int) -> float:
    """How much of a change of ln rel_l2, in the median over so many calls, chance explains."""
    return max(LEAST, _OF_A_MEDIAN * _ERROR_OF_MEDIAN * noise / math.sqrt(calls))


def _judged(
    place: Place,
    before: Standing,
    after: Standing,
    middle: float,
    noise: float,
    calls: tuple[CallChange, ...],
    gone: int,
    new: int,
) -> Change:
    """`middle` is the median change of ln rel_l2 over the calls; `gone` and `new` count calls of one side only."""
    explained = explained_by_noise(noise, min(before.calls, after.calls))
    worst, explained_of_one = change(before.worst, after.worst), _explained_of_one(noise)
    whys: dict[Kind, list[str]] = {kind: [] for kind in _ORDER}
    if severity(after.verdict) >= 2 and severity(after.verdict) > severity(before.verdict):
        whys["worse"].append(f"misses its gate: {before.verdict} → {after.verdict}")
    if severity(before.verdict) >= 2 > severity(after.verdict):
        whys["better"].append(f"misses its gate no longer: {before.verdict} → {after.verdict}")
    if abs(middle) > explained:
        whys["worse" if middle > 0 else "better"].append(f"rel_l2 {_times(middle)}, noise explains {_times(explained)}")
    elif abs(worst) > explained_of_one and after.calls > 1:
        whys["worse" if worst > 0 else "better"].append(
            f"its worst call {_times(worst)}, noise explains {_times(explained_of_one)}"
        )
    for kind in ("worse", "better"):
        if 0 < len(standing_out := [call for call in calls if call.kind == kind]) < after.calls:
            whys[kind].append(_named(standing_out, after.calls))
    if gone:
        whys["vanished"].append(f"{gone} of {after.calls + gone} calls vanished")
    if new:
        whys["appeared"].append(f"{new} calls appeared")
    first: Kind = next((kind for kind in _ORDER if whys[kind]), "same")
    why = "; ".join(reason for reasons in whys.values() for reason in reasons)
    return Change(first, place, before, after, math.exp(middle), math.exp(explained), why, calls)


def _single_calls(
    run: Calls, baseline: Calls, changes: Mapping[tuple[int, int], float], noise: float
) -> Iterator[CallChange]:
    """The calls that stand out, or miss a gate that they held, or no longer miss one."""
    explained = _explained_of_one(noise)
    for at, changed in changes.items():
        before, after = baseline[at], run[at]
        graver = 0 if before.verdict == after.verdict else severity(after.verdict) - severity(before.verdict)
        gate = graver != 0 and max(severity(before.verdict), severity(after.verdict)) >= 2
        if gate or abs(changed) > explained:
            worse = graver > 0 if gate else changed > 0
            yield CallChange("worse" if worse else "better", *at, before, after)


def _one_sided(place: Place, before: Standing | None, after: Standing | None) -> Change:
    kind: Kind = "vanished" if after is None else "appeared"
    why = "is no longer compared" if after is None else "was not compared before"
    return Change(kind, place, before, after, math.nan, math.nan, why)


def _kind(place: Place) -> tuple[str, str, str]:
    return kind_of(place.boundary), place.phase, place.mode


def most_noise(phase: str) -> float:
    """The noise of one call where it cannot be measured."""
    return MOST_NOISE["prefill" if phase == "prefill" else "decode"]


def _explained_of_one(noise: float) -> float:
    return max(LEAST, _OF_ONE_CALL * noise)


def _times(logarithm: float) -> str:
    return f"× {math.exp(logarithm):.3g}"


def _named(calls: list[CallChange], of: int) -> str:
    gravest = max(calls, key=lambda call: abs(change(call.before.rel_l2, call.after.rel_l2)))
    where = f"step {gravest.step} of user {gravest.user}"
    return f"{len(calls)} of {of} calls {calls[0].kind} by themselves, most {where}"


def _weight(each: Change) -> float:
    return math.inf if math.isnan(each.factor) else abs(math.log(each.factor)) if each.factor > 0 else math.inf
