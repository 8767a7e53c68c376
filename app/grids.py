# SPDX-License-Identifier: Apache-2.0
"""Records laid out on a grid, layer by module or layer by call: the worst of each cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd

from places import OUTSIDE, kind_of, place_of
from tttdebug.reporting.palette import VERDICTS, looks_like
from tttdebug.tracking.opened_run import SavedRecords
from wording import call_name

MOST_CELLS = 4_800
"""Cells that a browser draws at once; of more, neighbouring calls share a row, which shows the worst of them."""
_GRAVITY = {verdict: place for place, verdict in enumerate(VERDICTS)}


def badness_of(records: SavedRecords, by: str) -> tuple[np.ndarray, str]:
    """How bad each record is, and what that number is: rel L2 in floors, or rel L2 where no floor is known; 1 − PCC.

    Infinite where there is no number.
    """
    if by == "distance":
        badness, name = 1 - records.column("pcc"), "1 − PCC"
    else:
        rel_l2, floor = records.column("rel_l2"), records.column("floor_rel_l2")
        known = floor > 0
        badness, name = (
            (np.divide(rel_l2, floor, out=np.full(len(rel_l2), math.nan), where=known), "rel L2 / floor")
            if known.any()
            else (rel_l2, "rel L2")
        )
        badness = np.where(np.isfinite(rel_l2), badness, math.inf)
    return badness, name


def by_module(records: SavedRecords, badness: np.ndarray) -> pd.DataFrame:
    """A row a boundary of one call, with the `place` that is its column and the `row` that is its kind of module."""
    return _worst_of_cells(records, badness, [kind_of(boundary) for boundary in records.column("boundary")])


def by_call(records: SavedRecords, badness: np.ndarray, most_cells: int = MOST_CELLS) -> tuple[pd.DataFrame, int]:
    """A cell a layer and call, the calls in the order of the run; and how many calls share a row."""
    calls = list(zip(records.column("phase").tolist(), records.column("step").tolist(), strict=True))
    numbers = {call: number for number, call in enumerate(dict.fromkeys(calls))}
    layers = len({place_of(boundary) for boundary in dict.fromkeys(records.column("boundary").tolist())})
    together = math.ceil(len(numbers) / max(1, most_cells // layers))
    firsts = [call for call, number in numbers.items() if number % together == 0]
    rows = [call_name(*firsts[numbers[call] // together]) for call in calls]
    return _worst_of_cells(records, badness, rows), together


def kinds_of(boundaries: Sequence[str]) -> list[str]:
    """The kinds of modules of some boundaries, in their order; those outside the layers last."""
    return sorted(dict.fromkeys(map(kind_of, boundaries)), key=lambda kind: kind == OUTSIDE)


def of_each(names: np.ndarray, of: Callable[[str], Hashable]) -> np.ndarray:
    """`of` of every name; it is asked once of each different one."""
    known = {name: of(name) for name in dict.fromkeys(names.tolist())}
    return np.array([known[name] for name in names.tolist()], dtype=object)


def _worst_of_cells(records: SavedRecords, badness: np.ndarray, rows: Sequence[str]) -> pd.DataFrame:
    """The record of greatest badness of each cell, those that fail before those that do not."""
    frame = pd.DataFrame(
        {name: records.column(name) for name in ("boundary", "phase", "step", "verdict", "rel_l2", "pcc")}
        | {"row": rows, "badness": badness}
    )
    frame["place"] = of_each(records.column("boundary"), place_of)
    frame["look"] = of_each(records.column("verdict"), looks_like)
    order = frame["badness"].fillna(-1.0) + 1e12 * frame["look"].map(_is_grave)
    worst = order.groupby([frame["row"], frame["place"]], sort=False).idxmax()
    return frame.loc[worst].reset_index(drop=True)


def _is_grave(verdict: str) -> bool:
    return _GRAVITY[verdict] > _GRAVITY["floor"] and verdict != "skipped"
