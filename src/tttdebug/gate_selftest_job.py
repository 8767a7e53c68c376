# SPDX-License-Identifier: Apache-2.0
"""The self-test of a gate: faults put into the very model of a run, and which of them its thresholds let pass."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tttdebug.errors import FaultError
from tttdebug.testing.gate_result import GateResult, plain
from tttdebug.testing.gating import gate_run
from tttdebug.testing.tighter_limits import PROPOSED_METRICS, TighterLimit, tighter_limit

if TYPE_CHECKING:
    from tttdebug.faults.classes import FaultClass
    from tttdebug.faulty_runs import FaultyRuns
    from tttdebug.job import Job, Progress
    from tttdebug.testing.thresholds import Thresholds
    from tttdebug.tracking import Record, Run


@dataclass(frozen=True)
class Gated:
    """A gate as its user applies it: these thresholds, and what a run is held to besides."""

    thresholds: Thresholds
    baseline: Path | None = None
    reference_digest: str | None = None

    def __call__(self, run: Path) -> GateResult:
        return gate_run(run, self.thresholds, baseline=self.baseline, reference_digest=self.reference_digest)


@dataclass(frozen=True)
class Outcome:
    """One fault, and whether the gate saw it.

    `phase` and `step` are of the call in which the module of the fault errs most, in units of what its number formats
    explain: `rel_l2` there, that of the sound run, the floor, and the greatest that the formats explain. `by` are the
    first limits that were missed, a sentence each, `missed` how many comparisons miss one. `tighter` would see it.
    """

    fault: str
    of_class: str
    class_must_be_caught: bool
    boundary: str
    seed: int
    phase: str
    step: int
    rel_l2: float
    sound_rel_l2: float
    floor_rel_l2: float
    explained_rel_l2: float
    caught: bool
    missed: int
    by: tuple[str, ...]
    seconds: float
    tighter: TighterLimit | None = None

    @property
    def matters(self) -> bool:
        """Whether its module errs by more than number formats explain; what is not finite does."""
        return not self.rel_l2 <= self.explained_rel_l2

    @property
    def must_be_caught(self) -> bool:
        return self.class_must_be_caught and self.matters

    @property
    def unseen(self) -> bool:
        """Whether it shows that the gate is too lax."""
        return self.must_be_caught and not self.caught


@dataclass(frozen=True)
class GateSelftest:
    """What a gate makes of the sound run, and of each fault; `seed` repeats the self-test.

    `not_tried` says, by class, why there is no fault of it. `proposal` holds the thresholds that, written behind the
    others, let the sound run pass still and catch `mended` of the faults that were let through.
    """

    run: Path
    command: str
    thresholds: str
    sound: GateResult
    seed: int
    outcomes: tuple[Outcome, ...] = ()
    not_tried: tuple[tuple[str, str], ...] = ()
    proposal: str = ""
    mended: int = 0

    @property
    def unseen(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.unseen)

    @property
    def passed(self) -> bool:
        """Whether the sound run passes and every fault that must be caught is; not where none was tried."""
        return self.sound.passed and not self.unseen and any(outcome.must_be_caught for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; numbers that JSON cannot hold are strings."""
        faults = [
            asdict(outcome) | {"must_be_caught": outcome.must_be_caught, "unseen": outcome.unseen}
            for outcome in self.outcomes
        ]
        return plain({"passed": self.passed, **asdict(self), "outcomes": faults})


def gate_selftest(
    path: Path,
    gated: Gated,
    *,
    faults: int,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
    progress: Progress = lambda message, fraction: None,
) -> GateSelftest:
    """Put so many faults, of these classes or all, into the port of the run in `path`, each alone, and gate each run.

    Nothing is injected where the run itself fails its gate. Raises FaultError for a run of a port that is not ours or
    has a fault already, and for a class that is none; AnalysisError where the run's sides cannot be built again.
    """
    from tttdebug.faults.classes import classes_named

    chosen, result = classes_named(classes), gated(path)
    seed = random.SystemRandom().getrandbits(31) if seed is None else seed
    report = GateSelftest(path, result.command, result.thresholds, result, seed)
    if not result.passed:
        return report
    with TemporaryDirectory(prefix="tttdebug-selftest-") as folder:
        return _tested(report, gated, chosen, faults, Path(folder), progress)


def _tested(
    report: GateSelftest,
    gated: Gated,
    classes: Sequence[FaultClass],
    faults: int,
    folder: Path,
    progress: Progress,
) -> GateSelftest:
    from tttdebug.explain_job import job_of, refuse_changed
    from tttdebug.faulty_runs import FaultyRuns
    from tttdebug.job_sides import both_sides
    from tttdebug.tracking import Run

    run = Run.load(report.run)
    job = job_of(run)
    _refuse_unsuited(report.run, job)
    with both_sides(job, progress) as sides:
        refuse_changed(run, sides.reference)
        progress("the port as it is", None)
        runs = FaultyRuns(replace(job, command=report.command), sides, folder / "sound")
        sound = gated(runs.sound.path)
        if not sound.passed:
            return replace(report, sound=sound)
        draw = random.Random(report.seed)
        cases, not_tried = _drawn(sides.built.port, runs.boundaries, classes, faults, len(sides.prompts), job, draw)
        outcomes = {}
        for number, (of_class, fault, boundary, own) in enumerate(cases):
            progress(f"{fault} at {boundary}", number / len(cases))
            path = folder / str(number)
            outcomes[path] = _outcome(runs, gated, of_class, fault, boundary, own, path)
        report = replace(report, outcomes=tuple(outcomes.values()), not_tried=not_tried)
    return _with_proposal(report, gated, runs.sound.path, outcomes)


def _refuse_unsuited(path: Path, job: Job) -> None:
    if job.port is not None:
        raise FaultError(
            f"{path} is of a port of your own ({job.port}): faults can be put into those that tttdebug builds only; "
            "test the thresholds on a run of `tttdebug run` without --port"
        )
    if job.inject is not None:
        raise FaultError(f"{path} has the fault {job.inject} already; give a run of the sound port")


def _drawn(
    port: Any,
    boundaries: Sequence[str],
    classes: Sequence[FaultClass],
    count: int,
    prompts: int,
    job: Job,
    draw: random.Random,
) -> tuple[list[tuple[FaultClass, str, str, int]], tuple[tuple[str, str], ...]]:
    """So many faults, of each class in turn, with a boundary and a seed; and why there is none of the other classes."""
    turns: list[list[tuple[FaultClass, str, str]]] = []
    not_tried = []
    for each in classes:
        places, why = _places(port, boundaries, each, prompts, job.decode_steps)
        if places:
            turns.append(_shuffled(each, places, draw))
        else:
            not_tried.append((each.name, why))
    draw.shuffle(turns)
    in_turn = (case for cases in zip_longest(*turns) for case in cases if case is not None)
    return [(*case, draw.getrandbits(31)) for case in islice(in_turn, count)], tuple(not_tried)


def _shuffled(
    of_class: FaultClass, places: Mapping[str, list[str]], draw: random.Random
) -> list[tuple[FaultClass, str, str]]:
    """Every fault of a class at every place of its own, each fault once before any comes again."""
    columns = [[(of_class, name, where) for where in draw.sample(found, len(found))] for name, found in places.items()]
    draw.shuffle(columns)
    return [case for cases in zip_longest(*columns) for case in cases if case is not None]


def _places(
    port: Any, boundaries: Sequence[str], of_class: FaultClass, prompts: int, steps: int
) -> tuple[dict[str, list[str]], str]:
    """The boundaries that each fault of a class fits; why there are none."""
    from tttdebug.faults import fault_named, sites

    places, why = {}, "none of them fits a module of this model"
    for name in of_class.faults:
        fault = fault_named(name)
        found = [site.boundary for site in sites(port, fault) if site.boundary in boundaries]
        if not found:
            continue
        if fault.users > prompts:
            why = f"they show in runs of {fault.users} prompts only, and this one has {prompts}"
        elif fault.steps > steps:
            why = "they show in decode steps only, and this run has none"
        else:
            places[name] = found
    return places, why


def _outcome(
    runs: FaultyRuns, gated: Gated, of_class: FaultClass, fault: str, boundary: str, seed: int, path: Path
) -> Outcome:
    from tttdebug.tracking.call_numbers import first_call_of

    started = time.perf_counter()
    run, site = runs.run(fault, boundary, seed, path)
    result = gated(run.path)
    own = [record for record in run.records if first_call_of(record.boundary) in (site.boundary, *site.caches)]
    worst = max(own, key=_above_formats)
    sound = {record.key: record.rel_l2 for record in runs.sound.records}
    missed = len({miss.key for miss in result.misses})
    says = [f"{miss.key.boundary} {miss.key.phase}: {miss.says.partition(' (')[0]}" for miss in result.misses[:3]]
    outcome = Outcome(
        fault,
        of_class.name,
        of_class.must_be_caught,
        boundary,
        seed,
        worst.phase,
        worst.step,
        math.nan if worst.verdict in ("nonfinite", "shape_mismatch") else worst.rel_l2,
        sound.get(worst.key, math.nan),
        worst.floor_rel_l2,
        worst.explained_rel_l2,
        not result.passed,
        missed,
        (*says, *result.objections),
        time.perf_counter() - started,
    )
    return outcome if outcome.caught else replace(outcome, tighter=_tighter(runs.sound, run, gated))


def _above_formats(record: Record) -> float:
    """rel_l2 in units of what the number formats explain; what is not finite is above everything."""
    ratio = record.rel_l2 / record.explained_rel_l2 if record.explained_rel_l2 > 0 else math.inf
    return math.inf if math.isnan(ratio) else ratio


def _tighter(sound: Run, faulty: Run, gated: Gated) -> TighterLimit | None:
    from tttdebug.testing.applied_limits import applied
    from tttdebug.testing.record_columns import read_columns

    was, now = (read_columns(run.path, run.manifest, PROPOSED_METRICS) for run in (sound, faulty))
    metrics = [metric for threshold in gated.thresholds.thresholds for metric in threshold.limits]
    limited = read_columns(sound.path, sound.manifest, metrics)
    return tighter_limit(was, now, applied(gated.thresholds, limited, sound.manifest))


def _with_proposal(report: GateSelftest, gated: Gated, sound: Path, outcomes: Mapping[Path, Outcome]) -> GateSelftest:
    """The limits that would have caught what was let through, if the sound run passes with them; tried on all runs."""
    from tttdebug.testing.thresholds import thresholds_from_toml

    unseen = {path: each.tighter for path, each in outcomes.items() if each.unseen and each.tighter is not None}
    if not unseen:
        return report
    text = "\n\n".join(dict.fromkeys(limit.to_toml() for limit in unseen.values()))
    added = thresholds_from_toml(text, "the proposal").thresholds
    tightened = replace(gated, thresholds=replace(gated.thresholds, thresholds=(*gated.thresholds.thresholds, *added)))
    if not tightened(sound).passed:
        return report
    return replace(report, proposal=text, mended=sum(not tightened(path).passed for path in unseen))
