# SPDX-License-Identifier: Apache-2.0
"""The job that hands a failure on: a call of a saved run made again alone, cut down, and written as a bundle."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import BundleError

if TYPE_CHECKING:
    from tttdebug.bundles.bundle import Bundle
    from tttdebug.bundles.capture import WhichCall
    from tttdebug.bundles.case import Seen
    from tttdebug.job import Progress
    from tttdebug.tracking import Run

_SECONDS = 600  # for the check of the test that was written


@dataclass(frozen=True)
class Wanted:
    """What to bundle: a boundary, or the first that is at fault; and which call of it, where that is said."""

    boundary: str | None = None
    phase: str | None = None
    step: int | None = None
    user: int | None = None
    shrink: bool = True
    anyway: bool = False


@dataclass(frozen=True)
class Bundled:
    """What became of it: the bundle where one was written, and where it is; else what the module gave, no failure."""

    call: WhichCall
    whole: Seen
    bundle: Bundle | None = None
    written: tuple[Path, ...] = ()


def bundled(path: Path, wanted: Wanted, output: Path | None, progress: Progress) -> Bundled:
    """Bundle a call of the run in a folder. A module that does not fail alone is not written, unless `anyway`.

    Raises BundleError for a call that cannot be bundled, RunError or AnalysisError for a run that cannot be made again.
    """
    from tttdebug.backends import describe_device
    from tttdebug.bundles.bundle import Bundle, plain_name
    from tttdebug.bundles.capture import capture
    from tttdebug.bundles.case import case_of
    from tttdebug.bundles.folder import refuse_what_is_there, write_bundle
    from tttdebug.bundles.shrinking import as_it_is, shrink
    from tttdebug.bundles.standalone import EmulatedOn
    from tttdebug.explain_job import reopened
    from tttdebug.tracking import Run

    run = Run.load(path)
    call = call_of(run, wanted)
    if output is None:
        output = Path(f"{plain_name(path.resolve().name)}_{plain_name(call.boundary)}")
    refuse_what_is_there(output)
    with reopened(path, progress) as again:
        assert again.subject is not None
        captured = capture(again.subject, call, progress)
        case, device = case_of(captured), captured.device
        whole = as_it_is(case, device)
        if not whole.seen.fails and not wanted.anyway:
            return Bundled(call, whole.seen)
        shrunk = shrink(case, captured, device, progress) if wanted.shrink and whole.seen.fails else whole
        here = describe_device(device)
        emulated = EmulatedOn(here.engine if here.runs_on == "emulator" else "exact", here.architecture, here.grid)
        bundle = Bundle(captured, whole.seen, shrunk, run, emulated, _finding(run, call.boundary))
        progress("write the bundle and run its test", None)
        on_emulator = here.runs_on == "emulator"
        written = write_bundle(bundle, output, lambda test: _check(test, shrunk.seen) if on_emulator else None)
        return Bundled(call, whole.seen, bundle, tuple(written))


def call_of(run: Run, wanted: Wanted) -> WhichCall:
    """The call that is meant: of those that fit the first that fails, alone or in the run, else the one farthest off.

    Raises BundleError where nothing of a run fails and no boundary is named, or there is no such call.
    """
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.bundles.capture import WhichCall
    from tttdebug.tracking.run import ISOLATED

    explanation = Explanation.load(run)
    boundary = wanted.boundary
    if boundary is None and explanation is not None and explanation.findings:
        boundary = explanation.findings[0].boundary
    if boundary is None:
        first = run.first_divergence()
        if first is None:
            raise BundleError(f"nothing of {run.path} fails: name the boundary that is to be bundled")
        boundary = first.boundary
    asked = {name: getattr(wanted, name) for name in ("phase", "step", "user") if getattr(wanted, name) is not None}
    if "step" in asked:
        asked.setdefault("phase", "decode")
    alone = [record for record in run.experiments if record.mode == ISOLATED]
    of_boundary = [record for record in (*alone, *run.records) if record.boundary == boundary]
    fitting = [record for record in of_boundary if all(getattr(record, name) == value for name, value in asked.items())]
    if of_boundary and not fitting:
        raise BundleError(f"{boundary} has no call with {asked}; see `tttdebug show {run.path} --in-order`")
    if not fitting:
        return WhichCall(boundary, **asked)
    farthest = max(fitting, key=lambda record: record.above_floor if record.above_floor > 0 else 0.0)
    chosen = next((record for record in fitting if record.failed), farthest)
    return WhichCall(boundary, chosen.phase, chosen.step, chosen.user)


def _finding(run: Run, boundary: str) -> Any:
    """What an explanation of the run found at a boundary."""
    from tttdebug.analysis.explanation import Explanation

    explanation = Explanation.load(run)
    found = () if explanation is None else explanation.findings
    return next((finding for finding in found if finding.boundary == boundary), None)


def _check(test: Path, expected: Seen) -> None:
    """Run the test that was written, in a process of its own, and hold it to what was seen here.

    Raises BundleError where it does something else: what is handed on must do what is said of it.
    """
    environment = {**os.environ, "BUNDLE_ON": "emulator", "PYTHONDONTWRITEBYTECODE": "1"}
    source = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, test.name],
            cwd=test.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BundleError(f"the test that was written takes more than {_SECONDS} s; bundle a smaller module") from None
    said = re.search(r"rel_l2 (\S+) \(limit", done.stdout)
    error = expected.comparison.rel_l2
    same = said is not None and (said[1] == f"{error:.6g}" or abs(float(said[1]) - error) <= 1e-3 * error)
    if not same or (done.returncode != 0) != expected.fails:
        told = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise BundleError(
            f"the test that was written gives {said[1] if said else 'no number'} where the recording gave "
            f"{error:.6g} ({told}); please report it"
        )
