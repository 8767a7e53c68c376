# SPDX-License-Identifier: Apache-2.0
"""What the pages read: the runs under a folder, and views of one run's records. Only files of runs are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time as now
from typing import Any

import streamlit as st

from address import RUNS, Address, go
from tttdebug.analysis.explanation import Explanation
from tttdebug.errors import RunError
from tttdebug.reporting.dashboard import RUNS_VARIABLE
from tttdebug.tracking.growing_records import GrowingRecords
from tttdebug.tracking.opened_run import Call, OpenedRun, SavedRecords
from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.run import ACCUMULATED, FINDINGS, INHERITED, ISOLATED, MANIFEST, PROFILES, RECORDS, TOKENS

DEPTH_SEARCHED = 3
SECONDS_BETWEEN_LOOKS = 3.0
QUIET_SECONDS = 600.0
"""A run that writes nothing for so long is taken to have been ended, and is no longer followed."""
Stamp = tuple[tuple[int, int], ...]
"""Time and size of each file of a run."""


def runs_folder() -> Path:
    """The folder that the launcher was given."""
    return Path(os.environ.get(RUNS_VARIABLE, "reports"))


def find_runs(folder: Path) -> dict[str, Path]:
    """Every run under `folder`, or the one that it is, by the name that links use; damaged ones too."""
    if not folder.is_dir():
        return {}
    if _is_run(folder):
        return {folder.name: folder}
    return {path.relative_to(folder).as_posix(): path for path in sorted(_runs_below(folder, DEPTH_SEARCHED))}


def open_run(path: Path) -> OpenedRun:
    """The run in `path`, loaded anew only when its files have changed. Raises RunError."""
    return _load(path, stamp_of(path))


def current_run(address: Address) -> OpenedRun:
    """The run that the address names; without a name the list of runs. Raises RunError when there is no such run."""
    if address.run is None:
        go(RUNS, Address())
    folder = runs_folder()
    path = find_runs(folder).get(address.run)
    if path is None:
        raise RunError(f"no run is named {address.run!r} in {folder}; pick one that is there")
    run = open_run(path)
    if is_live(path, run.manifest.status):
        redraw_on_change(lambda: stamp_of(path))
    return run


def is_live(path: Path, status: str) -> bool:
    """Whether a run of that status is still being written, as far as its files tell."""
    changed = max(time for time, _ in stamp_of(path)) / 1e9
    return status == "unfinished" and now() - changed < QUIET_SECONDS


def redraw_on_change(look: Callable[[], object]) -> None:
    """Draw the page anew as soon as `look` gives something else than now; the page is left alone until then."""
    drawn = look()

    @st.fragment(run_every=SECONDS_BETWEEN_LOOKS)
    def watch() -> None:
        if look() != drawn:
            st.rerun()

    watch()


def default_boundary(run: OpenedRun, address: Address) -> str:
    """The boundary that the address names, else where the run diverges, else its first one.

    Raises RunError when the run holds no record.
    """
    if not run.records:
        raise RunError(f"{run.path} holds no comparison yet; reload this page when the run has gone on")
    return address.boundary or (run.first_divergence() or run.records[0]).boundary


def outcome(run: OpenedRun) -> str:
    """One of "passed", "failed", "incomplete" (finished, but comparisons are missing) and "unfinished"."""
    if not run.manifest.finished:
        return "unfinished"
    if run.failed or run.manifest.wrong_weights:
        return "failed"
    return "passed" if run.passed else "incomplete"


def label_of(described: Any) -> str:
    """The name in the manifest's description of a model or device."""
    return str(described.get("name") or described.get("kind") or "unnamed")


def explanation_of(run: OpenedRun) -> Explanation | None:
    """What `tttdebug explain` found in a run; None where nobody asked. Raises RunError when its file is damaged."""
    return _explanation(run.path, stamp_of(run.path))


def alone(run: OpenedRun, call: Call) -> dict[str, Record]:
    """The isolated records of a call, by boundary; none where the run was not explained."""
    return {record.boundary: record for record in run.by_call.get(call._replace(mode=ISOLATED), ())}


def passed_on(run: OpenedRun, call: Call) -> dict[str, Record]:
    """The inherited records of a call, by boundary; none where the run was not explained."""
    return {record.boundary: record for record in run.by_call.get(call._replace(mode=INHERITED), ())}


def records_of_user(run: OpenedRun, user: int, mode: str) -> SavedRecords:
    """The records of every call of one user, in one mode."""
    records = run.records if mode == ACCUMULATED else run.experiments
    return records.where((records.column("user") == user) & (records.column("mode") == mode))


def token_text(run: OpenedRun, key: Key) -> dict[int, str]:
    """The text of each token position of a call, where the run has kept it."""
    return {
        line["position"]: line["text"]
        for line in run.tokens
        if (line["phase"], line["step"], line["user"]) == (key.phase, key.step, key.user)
    }


@st.cache_resource(max_entries=8, show_spinner="Reading the run …")
def _load(path: Path, stamp: Stamp) -> OpenedRun:
    return OpenedRun.load(path, growing(path / RECORDS))


@st.cache_resource(max_entries=8, show_spinner=False)
def growing(records: Path) -> GrowingRecords:
    return GrowingRecords(records)


@st.cache_resource(max_entries=8, show_spinner=False)
def _explanation(path: Path, stamp: Stamp) -> Explanation | None:
    return Explanation.load(open_run(path))


def stamp_of(path: Path) -> Stamp:
    """Changes when a file of the run does."""
    return tuple(file_stamp(path / name) for name in (MANIFEST, RECORDS, PROFILES, TOKENS, FINDINGS))


def file_stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _is_run(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / RECORDS).exists()


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
            continue
        if _is_run(path):
            yield path
        elif depth > 1:
            yield from _runs_below(path, depth - 1)
