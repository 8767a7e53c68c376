# SPDX-License-Identifier: Apache-2.0
"""What the pages read: the runs under a folder, and views of one run's records. Only files of runs are read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from address import RUNS, Address, go
from tttdebug.errors import RunError
from tttdebug.reporting.dashboard import RUNS_VARIABLE
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.run import MANIFEST, PROFILES, RECORDS, TOKENS, Run

DEPTH_SEARCHED = 3
OUTSIDE = "outside layers"
"""The kind of boundaries that belong to no layer: embed, final_norm, logits."""

Stamp = tuple[tuple[int, int], ...]
"""Time and size of each file of a run."""


@dataclass(frozen=True)
class Summary:
    """One line of the list of runs; of an unreadable run nothing but its name is known."""

    name: str
    outcome: str
    created: str = ""
    model: str = ""
    precision: str = ""
    device: str = ""
    failing: int = 0
    compared: int = 0
    first_divergence: str = ""
    worst: str = ""


def runs_folder() -> Path:
    """The folder that the launcher was given."""
    return Path(os.environ.get(RUNS_VARIABLE, "reports"))


def find_runs(folder: Path) -> dict[str, Path]:
    """Every run under `folder`, or the one that it is, by the name that links use; damaged ones too."""
    if _is_run(folder):
        return {folder.name: folder}
    return {path.relative_to(folder).as_posix(): path for path in sorted(_runs_below(folder, DEPTH_SEARCHED))}


def open_run(path: Path) -> Run:
    """The run in `path`, loaded anew only when its files have changed. Raises RunError."""
    return _load(path, stamp_of(path))


def current_run(address: Address) -> Run:
    """The run that the address names; without a name the list of runs. Raises RunError when there is no such run."""
    if address.run is None:
        go(RUNS, Address())
    folder = runs_folder()
    path = find_runs(folder).get(address.run)
    if path is None:
        raise RunError(f"no run is named {address.run!r} in {folder}; pick one that is there")
    return open_run(path)


def default_boundary(run: Run, address: Address) -> str:
    """The boundary that the address names, else where the run diverges, else its first one.

    Raises RunError when the run holds no record.
    """
    if not run.records:
        raise RunError(f"{run.path} holds no comparison yet; reload this page when the run has gone on")
    return address.boundary or (run.first_divergence() or run.records[0]).boundary


def summary(name: str, path: Path) -> Summary:
    """What the list of runs says about one of them."""
    return _summary(name, path, stamp_of(path))


def outcome(run: Run) -> str:
    """ "passed", "failed", "incomplete" (finished, but comparisons are missing) or "unfinished"."""
    if not run.manifest.finished:
        return "unfinished"
    if run.failed:
        return "failed"
    return "passed" if run.passed else "incomplete"


def worst_record(run: Run) -> Record | None:
    """The record furthest from its reference: a non-finite or incomparable one, else that of the greatest rel_l2."""
    return max(run.records, key=lambda record: math.inf if math.isnan(record.rel_l2) else record.rel_l2, default=None)


def label_of(described: Any) -> str:
    """The name in the manifest's description of a model or device."""
    return str(described.get("name") or described.get("kind") or "unnamed")


def place_of(boundary: str) -> str:
    """The layer that a boundary belongs to; a boundary outside the layers is its own place."""
    return boundary.rpartition(".")[0] or boundary


def kind_of(boundary: str) -> str:
    """Which module of its layer a boundary is."""
    layer, _, kind = boundary.rpartition(".")
    return kind if layer else OUTSIDE


def places_of(records: Sequence[Record]) -> dict[str, str]:
    """Every layer, and every boundary outside of the layers, with its first boundary; in the order of execution."""
    firsts: dict[str, str] = {}
    for record in records:
        firsts.setdefault(place_of(record.boundary), record.boundary)
    return firsts


def depth_frame(records: list[Record]) -> pd.DataFrame:
    """A row a record with its place, its kind, how often its rel_l2 exceeds its floor, and 1 − pcc."""
    rows = [
        {
            "boundary": record.boundary,
            "place": place_of(record.boundary),
            "kind": kind_of(record.boundary),
            "verdict": record.verdict,
            "failed": record.failed,
            "pcc": record.pcc,
            "distance": 1 - record.pcc,
            "rel_l2": record.rel_l2,
            "floor": record.floor_rel_l2,
            "above_floor": above_floor(record),
            "slope": record.slope,
            "max_abs_diff": record.max_abs_diff,
            "worst_token": record.worst_token,
            "worst_token_pcc": record.worst_token_pcc,
            "note": record.note,
        }
        for record in records
    ]
    return pd.DataFrame(rows)


def above_floor(record: Record) -> float:
    """rel_l2 in units of its floor; nan where there is no floor."""
    return record.rel_l2 / record.floor_rel_l2 if record.floor_rel_l2 > 0 else math.nan


def token_text(run: Run, key: Key) -> dict[int, str]:
    """The text of each token position of a call, where the run has kept it."""
    return {
        line["position"]: line["text"]
        for line in run.tokens
        if (line["phase"], line["step"], line["user"]) == (key.phase, key.step, key.user)
    }


@st.cache_resource(max_entries=8, show_spinner="Reading the run …")
def _load(path: Path, stamp: Stamp) -> Run:
    return Run.load(path)


@st.cache_data(max_entries=1000, show_spinner=False)
def _summary(name: str, path: Path, stamp: Stamp) -> Summary:
    try:
        run = Run.load(path)
    except RunError:
        return Summary(name, "unreadable")
    first, worst = run.first_divergence(), worst_record(run)
    manifest: Manifest = run.manifest
    return Summary(
        name=name,
        outcome=outcome(run),
        created=manifest.created,
        model=label_of(manifest.model),
        precision=manifest.precision,
        device=label_of(manifest.device),
        failing=len(run.failed),
        compared=len(run.records),
        first_divergence=first.boundary if first else "",
        worst=_worst(worst) if worst else "",
    )


def _worst(record: Record) -> str:
    return f"{record.boundary}, {record.verdict if math.isnan(record.rel_l2) else f'rel L2 {record.rel_l2:.3g}'}"


def stamp_of(path: Path) -> Stamp:
    """Changes when a file of the run does."""
    return tuple(_file_stamp(path / name) for name in (MANIFEST, RECORDS, PROFILES, TOKENS))


def _file_stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _is_run(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / RECORDS).exists()


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if not path.is_dir() or path.name.startswith("."):
            continue
        if _is_run(path):
            yield path
        elif depth > 1:
            yield from _runs_below(path, depth - 1)
