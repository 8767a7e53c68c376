# SPDX-License-Identifier: Apache-2.0
"""The jobs after a run: explaining one as it is made, or from its folder with both sides built again as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.errors import AnalysisError, RunError
from tttdebug.foreign_port import own_exceptions
from tttdebug.job import Job, tracked

if TYPE_CHECKING:
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.job import Progress
    from tttdebug.references import Reference
    from tttdebug.tracking import Run

_SAME = {"weights_digest": "weights", "layers": "number of layers", "architecture": "architecture"}


def run_and_explain(job: Job, progress: Progress) -> Explanation:
    """Do a job and explain its run. Raises what `do` and `explain` do."""
    from tttdebug.analysis.explain import explain

    with tracked(job, progress) as run, _whose(job):
        return explain(run, progress=progress)


def explained(path: Path, progress: Progress, prompts: int | None = None) -> Explanation:
    """Explain the run in a folder; the margins of sound modules are measured over so many prompts.

    Raises AnalysisError for a run that cannot be explained, and whatever building its sides again raises.
    """
    from tttdebug.analysis.explain import PROMPTS, explain

    with reopened(path, progress) as run:
        return explain(run, prompts=PROMPTS if prompts is None else prompts, progress=progress)


@contextmanager
def reopened(path: Path, progress: Progress) -> Iterator[Run]:
    """A saved run, within the block with both its sides as `tttdebug run` built them: its `subject` is there.

    Raises RunError for no whole run, AnalysisError where its sides cannot be built again or are not what they were.
    """
    from tttdebug.job_sides import both_sides, compared
    from tttdebug.tracking import Run
    from tttdebug.tracking.subject import subject_of

    run = Run.load(path)
    job = job_of(run)
    with both_sides(job, progress) as sides, _whose(job):
        refuse_changed(run, sides.reference)
        run.subject = subject_of(**compared(job, sides))
        yield run


def job_of(run: Run) -> Job:
    """The job that builds a run's sides again.

    Raises AnalysisError for a run that did not come to its end or was not made by `tttdebug run`.
    """
    manifest = run.manifest
    if not run.records or len(run.records) != manifest.compared:  # one whose explanation was cut short is whole
        raise AnalysisError(f"{run.path} is {manifest.status}: only a whole run can be explained; run it again")
    if not manifest.job:
        raise AnalysisError(
            f"{run.path} does not say how its port was built: it was made in Python, or by an earlier version. Where "
            "td.track gave the run, call td.explain(run) before the process ends"
        )
    try:
        job = Job.from_json(manifest.job)
    except (TypeError, ValueError) as error:
        raise RunError(f"{run.path}: the job in its manifest is damaged ({error}); run again") from None
    _refuse_code_within(run, job)
    return job


def _refuse_code_within(run: Run, job: Job) -> None:
    """Nothing in a run's folder is executed: whoever hands over a run would hand over a program."""
    port = None if job.port is None else Path(job.port.rpartition(":")[0] or job.port)
    for path in (port, job.family):
        if path is not None and path.resolve().is_relative_to(run.path.resolve()):
            raise RunError(f"{path} is code within the run {run.path}, and nothing in a run is executed; run again")


def refuse_changed(run: Run, reference: Reference) -> None:
    """What is built again must be what was compared."""
    now = {
        "weights_digest": reference.weights_digest,
        "layers": reference.model.config.num_hidden_layers,
        "architecture": type(reference.model).__name__,
    }
    for name, words in _SAME.items():
        then = run.manifest.model.get(name)
        if then is not None and then != now[name]:
            raise AnalysisError(
                f"the reference's {words} changed since {run.path} was made: {then} then, {now[name]} now "
                f"({reference.source}); bring back what it was, or run again"
            )


def _whose(job: Job) -> AbstractContextManager[None]:
    """An exception within the block is said to be the port's where that is the user's own."""
    return nullcontext() if job.port is None else own_exceptions("the port raised while it was run again")
