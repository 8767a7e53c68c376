# SPDX-License-Identifier: Apache-2.0
"""One line of the list of runs: what a run says of itself before it is opened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from data import Stamp, growing, label_of, outcome, stamp_of
from tttdebug.errors import RunError
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import RECORDS


@dataclass(frozen=True)
class Summary:
    """Of an unreadable run nothing but its name is known. `worst` is the boundary of the greatest rel_l2."""

    name: str
    outcome: str
    created: str = ""
    model: str = ""
    precision: str = ""
    device: str = ""
    failing: int = 0
    compared: int = 0
    expected: int = 0
    first_divergence: str = ""
    worst: str = ""
    worst_rel_l2: float = math.nan
    status: str = ""

    @property
    def words(self) -> str:
        """All that a search looks through."""
        return " ".join((self.name, self.model, self.precision, self.device, self.first_divergence, self.worst)).lower()


def summary(name: str, path: Path) -> Summary:
    """What the list of runs says about one of them."""
    return _summary(name, path, stamp_of(path))


@st.cache_data(max_entries=5000, show_spinner=False)
def _summary(name: str, path: Path, stamp: Stamp) -> Summary:
    try:
        run = OpenedRun.load(path, growing(path / RECORDS))
    except RunError:
        return Summary(name, "unreadable")
    first, worst = run.first_divergence(), worst_record(run)
    manifest = run.manifest
    return Summary(
        name=name,
        outcome=outcome(run),
        created=manifest.created,
        model=label_of(manifest.model),
        precision=manifest.precision,
        device=label_of(manifest.device),
        failing=len(run.failed),
        compared=len(run.records),
        expected=manifest.expected,
        first_divergence=first.boundary if first else "",
        worst=worst.boundary if worst else "",
        worst_rel_l2=worst.rel_l2 if worst else math.nan,
        status=manifest.status,
    )


def worst_record(run: OpenedRun) -> Record | None:
    """The record furthest from its reference: a non-finite or incomparable one, else that of the greatest rel_l2."""
    if not run.records:
        return None
    errors = run.records.column("rel_l2")
    return run.records[int(np.where(np.isnan(errors), np.inf, errors).argmax())]
