# SPDX-License-Identifier: Apache-2.0
"""Explaining a run: its modules examined alone, its verdicts settled, causes sought, fixes proposed, all of it kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tttdebug.analysis.anatomy import Anatomy, formats_of
from tttdebug.analysis.cache_watch import CacheWatch
from tttdebug.analysis.calibration import calibration
from tttdebug.analysis.composition import Composition
from tttdebug.analysis.diagnosis import diagnose
from tttdebug.analysis.examination import Examination, Examiner
from tttdebug.analysis.explanation import Explanation
from tttdebug.analysis.finding import Finding
from tttdebug.analysis.inherited import Inherited, inherited_errors
from tttdebug.analysis.other_twins import other_twins
from tttdebug.analysis.repeatability import unrepeatable
from tttdebug.analysis.small_errors import mathematics_of
from tttdebug.analysis.special.decisions import Decisions, decisions
from tttdebug.analysis.special.nonfinite import first_nonfinite
from tttdebug.analysis.special.read_again import ReadAgain
from tttdebug.analysis.swaps import shares
from tttdebug.analysis.twin import emulated_twin
from tttdebug.analysis.verdicts import verdicts_of
from tttdebug.analysis.whole_reference import refuse_streamed
from tttdebug.errors import AnalysisError
from tttdebug.references import check_reference
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.gates import explained_by_floor, kind_of
from tttdebug.tracking.record import Key, Record, metrics_of
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import INHERITED, Run
from tttdebug.tracking.subject import Subject

Progress = Callable[[str, "float | None"], None]
PROMPTS = 4
"""Prompts over which the margins are measured, the run's own among them."""

MEASURED, DECODED = 6, 1
"""Findings whose cost is measured, and over how many decode steps."""

UNREPEATABLE = ("nondeterministic", "state_leak")


def explain(
    run: Run,
    *,
    prompts: int = PROMPTS,
    emulated_floor: bool = True,
    progress: Progress = lambda message, fraction: None,
) -> Explanation:
    """Whose the error of `run` is, what causes it, and what removes it; written into the run's folder too.

    The run must have been made in this process (`td.track`), so that both sides are there to be run again; of one that
    was loaded `tttdebug explain RUN` builds them again. The margins of sound modules are measured over `prompts`
    prompts, the run's own and others of the package. Of a port of `build_model` the floor of each module is the same
    module on the emulator; of any other, and without `emulated_floor`, the reference's in the port's number formats.

    Raises ReferenceCheckError where the reference is not repeatable, AnalysisError where the port is not there.
    """
    subject = run.subject
    if subject is None:
        raise AnalysisError(
            f"{run.path} was loaded from disk, and an explanation runs both sides again: use `tttdebug explain "
            f"{run.path}`, or explain the run that td.track gave"
        )
    refuse_streamed(subject.reference)
    check_reference(subject.reference, subject.prompts[0].inputs)
    more = calibration(subject, prompts - len(subject.prompts))
    progress("whether the port repeats itself", None)
    findings = unrepeatable(subject, more[0] if more else None)
    anatomy = Anatomy(subject.reference, formats_of(subject.port))
    holders, chosen = Composition(subject.paired).holders, decisions(run, anatomy.experts_per_token)
    tied = _tied(run, chosen, holders)
    reopened = ReopenedRun(run)
    twin = emulated_twin(subject) if emulated_floor else None
    found = Examiner(subject, anatomy, reopened, twin).examine(more, progress)
    small = [] if twin is None else _of_small_errors(subject, twin, found, progress)
    for finding in small:
        found.at_fault.setdefault(finding.boundary, list(finding.records))
    watch = CacheWatch(subject)
    again = None if findings else ReadAgain(subject, run)
    inherited_errors(subject, lambda inherited: reopened.append(_record(subject, inherited)), watch, progress, again)
    findings += [] if again is None else again.findings()
    own = {key: "injected" for keys in found.at_fault.values() for key in keys}
    experiments = [replace(record, verdict=own.get(record.key, record.verdict)) for record in reopened.experiments]
    filled_by = {pair.boundary: pair.after for pair in subject.caches}
    verdicts = own | verdicts_of(run.records, experiments, holders, filled_by, tied)
    findings += [*_nonfinite(run), *watch.findings(), *diagnose(found, subject, progress, small)]
    ranked = _ranked(_one_a_module(findings), subject, progress)
    notes = [
        *_notes(anatomy, found.not_alone),
        *_enlarged(run, verdicts, ranked, tied),
        *chosen.sentences(),
    ]
    finished = reopened.finish(verdicts, [finding.to_json() for finding in ranked], notes)
    return Explanation(tuple(ranked), tuple(notes), finished)


def _of_small_errors(subject: Subject, twin: Subject, found: Examination, progress: Progress) -> list[Finding]:
    """What is known of the modules that are a little off their twins; mathematics is asked of those not at fault yet,
    the first of each kind."""
    errors = found.small.by_boundary()
    findings = other_twins(subject, twin, errors, progress)
    told = {finding.boundary for finding in findings} | set(found.at_fault)
    asked: dict[str, str] = {}
    for boundary in errors:
        if boundary not in told and found.calls.get(boundary):
            asked.setdefault(kind_of(boundary), boundary)
    for boundary in asked.values():
        progress(f"what is a little wrong with {boundary}", None)
        finding = mathematics_of(found.calls[boundary][0], errors[boundary])
        findings += [] if finding is None else [finding]
    return findings


def _tied(run: Run, chosen: Decisions, holders: Mapping[str, str | None]) -> set[Key]:
    """The calls of mixtures that err at tokens alone whose experts differ by ties: rounding decided there."""
    records = {record.key: record for record in run.records}
    found = set()
    for router, tokens in chosen.tied.items():
        mixture = replace(router, boundary=holders.get(router.boundary) or "")
        record, profile = records.get(mixture), run.profiles.get(mixture)
        if record is None or profile is None:
            continue
        others = [error for token, error in enumerate(profile["token_rel_l2"]) if token not in tokens]
        if all(error <= explained_by_floor(record.floor_rel_l2, 1) for error in others):
            found.add(replace(mixture, mode=""))
    return found


def _enlarged(run: Run, verdicts: Mapping[Key, str], findings: Sequence[Finding], tied: set[Key]) -> list[str]:
    """A sentence on comparisons that fail in a port of sound modules: the rounding of one that later ones enlarge."""
    came_in = [record for record in run.failed if verdicts.get(record.key) in ("inherited", "amplified")]
    if findings or not came_in:
        return []
    worst = max(came_in, key=lambda record: record.above_floor)
    where = f"{worst.boundary} in {worst.phase} {worst.step if worst.phase == 'decode' else ''}".rstrip()
    return [
        f"{len(came_in)} comparisons miss their gates by more than their floors, though every module alone gives what "
        f"its number formats give: the model enlarges rounding, most before {where} ({worst.above_floor:.1f} floors)"
        + ("; it decides ties between experts, see the routers below" if tied else "")
    ]


def _nonfinite(run: Run) -> list[Finding]:
    found = first_nonfinite(run)
    return [] if found is None else [found]


def _one_a_module(findings: Sequence[Finding]) -> list[Finding]:
    """The first finding of each boundary, which is the more certain one; of two the unknown gives way."""
    kept: dict[str, Finding] = {}
    for finding in findings:
        if finding.boundary not in kept or not kept[finding.boundary].confirmed:
            kept[finding.boundary] = finding
    return list(kept.values())


def _ranked(findings: Sequence[Finding], subject: Subject, progress: Progress) -> list[Finding]:
    """The findings by what part of the final error is gone without them; those where that is not known as they were.

    A port that does not repeat itself comes first whatever it costs: no other number can be trusted before.
    """
    if not findings:
        return []
    progress("what each finding costs", None)
    measured = shares(subject, [finding.boundary for finding in findings[:MEASURED]], decode_steps=DECODED)
    weighed = [replace(finding, share=measured.get(finding.boundary, math.nan)) for finding in findings]
    order = {id(finding): place for place, finding in enumerate(weighed)}

    def rank(finding: Finding) -> tuple[bool, float, int]:
        share = 0.0 if math.isnan(finding.share) else finding.share
        return finding.cause not in UNREPEATABLE, -round(share, 1), order[id(finding)]

    return sorted(weighed, key=rank)


def _record(subject: Subject, inherited: Inherited) -> Record:
    boundary = first_call_of(inherited.boundary)
    pair = next(modules.pair for modules in subject.paired if modules.pair.boundary == boundary)
    return Record(
        boundary=inherited.boundary,
        mode=INHERITED,
        phase=inherited.turn.phase,
        step=inherited.turn.step,
        user=inherited.user.user,
        verdict="ok",
        floor_rel_l2=float("nan"),
        module=pair.port,
        reference_path=pair.reference,
        dtype="",
        adapters=(),
        engine="",
        seconds=float("nan"),
        note=f"the reference's module on the port's input, which is off by rel_l2 {inherited.input_rel_l2:.3g}",
        input_rel_l2=inherited.input_rel_l2,
        **metrics_of(inherited.comparison),
    )


def _notes(anatomy: Anatomy, not_alone: dict[str, str]) -> list[str]:
    notes = [f"{boundary} was not run alone: {reason}" for boundary, reason in not_alone.items()]
    if anatomy.unknown:
        notes.append(
            f"what each module computes is not known, so causes within modules were not tried: {anatomy.unknown}"
        )
    return notes
