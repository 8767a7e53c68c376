# SPDX-License-Identifier: Apache-2.0
"""Runs held against one another: what differs around the numbers, and what became of every boundary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import streamlit as st

from address import Address, choose
from charts.change import SYMBOLS, change_map
from data import Stamp, open_run
from drawing import pick_from, pick_row, spec_of
from looks import colours
from tttdebug.reporting.palette import GREEN, GREY, VERMILLION
from tttdebug.testing.across import across
from tttdebug.testing.comparing import Change, Comparison, compare_sides
from tttdebug.testing.side import Side, side_of_run
from tttdebug.testing.standing import Place
from tttdebug.tracking.run import ACCUMULATED
from wording import plain

COLOURS = {"worse": VERMILLION, "vanished": VERMILLION, "better": GREEN, "appeared": GREY, "same": GREY}
NUMBER = st.column_config.NumberColumn(format="%.3g")
FACTOR = st.column_config.NumberColumn(format="%.3g ×")
COLUMNS = {
    "before": NUMBER,
    "after": NUMBER,
    "after / before": FACTOR,
    "noise explains": st.column_config.NumberColumn(format="%.3g ×", help="how much of that chance alone may cause"),
}


@st.cache_resource(max_entries=8, show_spinner="Reading the runs …")
def read_side(name: str, path: Path, stamp: Stamp) -> Side:
    """The run at `path`. Raises RunError where it cannot be read, ComparisonError where it holds no record."""
    open_run(path)  # a run that no page shows is compared with none
    return replace(side_of_run(path), name=name)


@st.cache_resource(max_entries=8, show_spinner=False)
def compared(run: str, baseline: str, paths: tuple[Path, Path], stamps: tuple[Stamp, Stamp]) -> Comparison:
    """A run against an earlier one. Raises as `read_side`, and ComparisonError where models or prompts differ."""
    return compare_sides(read_side(run, paths[0], stamps[0]), read_side(baseline, paths[1], stamps[1]))


def phase_of(place: Place) -> str:
    return place.phase if place.mode == ACCUMULATED else f"{place.phase}, {place.mode}"


def show_differences(found: Comparison) -> None:
    if not found.differences:
        st.markdown("Both ran with the same versions, device, number formats, weights and command.")
        return
    st.caption("What differs around the numbers")
    rows = [(each.name, each.before or "–", each.after or "–") for each in found.differences]
    st.dataframe(
        pd.DataFrame(rows, columns=["differs", f"before: {found.baseline}", f"after: {found.run}"]),
        hide_index=True,
        height="content",
        key=f"differences {found.baseline}",
    )


def show_map(found: Comparison, order: Sequence[str]) -> Place | None:
    """A map a phase and mode, the boundaries in the order of execution; what was clicked."""
    places = {boundary: place for place, boundary in enumerate(order)}
    clicked = None
    for phase in dict.fromkeys(map(phase_of, sorted((change.place for change in found.changes), key=_prefill_first))):
        changes = [change for change in found.changes if phase_of(change.place) == phase]
        changes.sort(key=lambda change: places.get(change.place.boundary, len(places)))
        st.caption(phase)
        picked = pick_from(spec_of(change_map(changes, colours().ink)), f"map {found.baseline} {phase}")
        if picked is not None:
            clicked = next(change.place for change in changes if change.place.boundary == picked["boundary"])
    return clicked


def _prefill_first(place: Place) -> tuple[bool, bool]:
    return place.mode != ACCUMULATED, place.phase != "prefill"


def show_changes(found: Comparison) -> Place | None:
    """Every boundary, the worst change first; what was clicked."""
    wanted = Address.current().outcome
    counts = Counter(change.kind for change in found.changes)
    kind = choose(
        f"Changes since {found.baseline}",
        [kind for kind in SYMBOLS if kind in counts],
        wanted if wanted in counts else None,
        lambda chosen: {"outcome": chosen},
        st.pills,
        format_func=lambda kind: f"{SYMBOLS[kind]} {counts[kind]:,} {kind}".strip(),
    )
    changes = [change for change in found.changes if kind in (None, change.kind)]
    frame = pd.DataFrame([_row(change) for change in changes]).style.map(_change_css, subset=["change"])
    row = pick_row(frame, f"changes {found.baseline}", column_config=COLUMNS, placeholder="–")
    return None if row is None else changes[row].place


def _row(change: Change) -> dict[str, object]:
    return {
        "change": f"{SYMBOLS[change.kind]} {change.kind}".strip(),
        "boundary": change.place.boundary,
        "phase": phase_of(change.place),
        "before": math.nan if change.before is None else change.before.rel_l2,
        "after": math.nan if change.after is None else change.after.rel_l2,
        "after / before": change.factor,
        "noise explains": change.noise_factor,
        "verdict": " → ".join(dict.fromkeys(each.verdict for each in (change.before, change.after) if each)),
        "why": change.why,
    }


def _change_css(label: str) -> str:
    return f"color: {COLOURS[label.split(' ')[-1]]}"


def show_across(sides: Sequence[Side]) -> Place | None:
    """A column a run, the boundary that changes most first; what was clicked."""
    rows = across(sides)
    frame = pd.DataFrame(
        [
            {"boundary": row.place.boundary, "phase": phase_of(row.place)}
            | {
                each.name: math.nan if standing is None else standing.rel_l2
                for each, standing in zip(sides, row.standings, strict=True)
            }
            | {"greatest change": math.exp(row.spread)}
            for row in rows
        ]
    )
    columns = {each.name: NUMBER for each in sides} | {"greatest change": FACTOR}
    row = pick_row(frame, "across", column_config=columns, placeholder="–")
    st.caption("rel L2 of each boundary, in the median over the calls of its phase.")
    return None if row is None else rows[row].place


def sum_of(found: Comparison) -> str:
    """The answer, as Markdown."""
    counts = Counter(change.kind for change in found.changes)
    if not found.got_worse:
        better = f", {counts['better']:,} of {len(found.changes):,} boundaries and phases are better"
        return f"Nothing is worse than in {plain(found.baseline)}{better if counts['better'] else ''}."
    said = [f"{counts[kind]:,} {kind}" for kind in ("worse", "vanished", "better", "appeared") if counts[kind]]
    return f"Of {len(found.changes):,} boundaries and phases {', '.join(said)} since {plain(found.baseline)}."
