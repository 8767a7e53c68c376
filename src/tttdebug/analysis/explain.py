# SPDX-License-Identifier: Apache-2.0
"""Explaining a run: its modules examined alone, its verdicts settled, causes sought, fixes proposed, all of it kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

from tttdebug.analysis.anatomy import Anatomy
from tttdebug.analysis.cache_watch import CacheWatch
from tttdebug.analysis.composition import Composition
from tttdebug.analysis.diagnosis import diagnose
from tttdebug.analysis.examination import Examiner, formats_of
from tttdebug.analysis.explanation import Explanation
from tttdebug.analysis.inherited import Inherited, inherited_errors
from tttdebug.analysis.verdicts import verdicts_of
from tttdebug.errors import AnalysisError
from tttdebug.references import check_reference
from tttdebug.tracking.prompts import Prompt, read_prompt
from tttdebug.tracking.record import Record, metrics_of
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import INHERITED, Run
from tttdebug.tracking.subject import Subject

Progress = Callable[[str, "float | None"], None]
PROMPTS = 4
"""Prompts over which the margins are measured, the run's own among them."""

CALIBRATION_TOKENS = 64


def explain(run: Run, *, prompts: int = PROMPTS, progress: Progress = lambda message, fraction: None) -> Explanation:
    """Whose the error of `run` is, what causes it, and what removes it; written into the run's folder too.

    The run must have been made in this process (`td.track`), so that both sides are there to be run again; of one that
    was loaded `tttdebug explain RUN` builds them again. The margins of sound modules are measured over `prompts`
    prompts, the run's own and others of the package.

    Raises ReferenceCheckError where the reference is not repeatable, AnalysisError where the port is not there.
    """
    subject = run.subject
    if subject is None:
        raise AnalysisError(
            f"{run.path} was loaded from disk, and an explanation runs both sides again: use `tttdebug explain "
            f"{run.path}`, or explain the run that td.track gave"
        )
    check_reference(subject.reference, subject.prompts[0].token_ids)
    anatomy = Anatomy(subject.reference, formats_of(subject.port))
    reopened = ReopenedRun(run)
    examiner = Examiner(subject, anatomy, reopened)
    found = examiner.examine(_calibration(subject, prompts - len(subject.prompts)), progress)
    watch = CacheWatch(subject)
    inherited_errors(subject, lambda inherited: reopened.append(_record(subject, inherited)), watch, progress)
    own = {key: "injected" for keys in found.at_fault.values() for key in keys}
    experiments = [replace(record, verdict=own.get(record.key, record.verdict)) for record in reopened.experiments]
    verdicts = own | verdicts_of(run.records, experiments, Composition(subject.paired).holders)
    findings = [*diagnose(found, subject, progress), *watch.findings()]
    notes = _notes(anatomy, found.not_alone)
    finished = reopened.finish(verdicts, [finding.to_json() for finding in findings], notes)
    return Explanation(tuple(findings), tuple(notes), finished)


def _calibration(subject: Subject, count: int) -> list[Prompt]:
    """That many prompts besides the run's: prose, code and numbers, or where no text is read the run's own, turned."""
    if count <= 0:
        return []
    reference = subject.reference
    if reference.tokenizer is None:
        own = subject.prompts[0].token_ids
        shift = max(1, len(own) // (count + 1))
        pieces = [own[i * shift :] + own[: i * shift] for i in range(1, count + 1)]
        return [Prompt("", piece[:CALIBRATION_TOKENS]) for piece in pieces]
    texts = (files("tttdebug") / "prompts" / "calibration.txt").read_text(encoding="utf-8").split("\n\n")
    read = [read_prompt(reference, text.strip()) for text in texts[:count]]
    longest = min(CALIBRATION_TOKENS, reference.context_length)
    return [Prompt(prompt.text, prompt.token_ids[:longest]) for prompt in read]


def _record(subject: Subject, inherited: Inherited) -> Record:
    pair = next(modules.pair for modules in subject.paired if modules.pair.boundary == inherited.boundary)
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
