# SPDX-License-Identifier: Apache-2.0
"""The runs under the folder: which is good, which is not, and where it is worst."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import streamlit as st

from address import COMPARE, OVERVIEW, Address, choose, go
from data import find_runs, is_live, redraw_on_change, runs_folder, stamp_of
from summaries import Summary, summary
from tttdebug.reporting.palette import VERDICTS
from tttdebug.reporting.wording import counted
from wording import moment

OUTCOMES = {
    "passed": VERDICTS["ok"],
    "failed": VERDICTS["diverged"],
    "incomplete": VERDICTS["skipped"],
    "running": VERDICTS["skipped"],
    "unfinished": VERDICTS["skipped"],
    "unreadable": VERDICTS["nonfinite"],
}
COLUMNS = {
    "failing": st.column_config.NumberColumn(format="localized", help="comparisons whose gate fails"),
    "compared": st.column_config.NumberColumn(format="localized", help="comparisons that were made"),
    "worst boundary": st.column_config.TextColumn(help="the one of the greatest rel L2, or that holds no number"),
    "its rel L2": st.column_config.NumberColumn(format="%.3g"),
}


def row(run: Summary) -> dict[str, object]:
    read = run.outcome != "unreadable"
    return {
        "run": run.name,
        "outcome": f"{OUTCOMES[run.outcome].symbol} {run.outcome}",
        "date": moment(run.created),
        "model": run.model,
        "precision": run.precision,
        "device": run.device,
        "first divergence": run.first_divergence,
        "worst boundary": run.worst,
        "its rel L2": run.worst_rel_l2,
        "failing": run.failing if read else None,
        "compared": run.compared if read else None,
    }


def outcome_css(label: str) -> str:
    return f"color: {OUTCOMES[label.split(' ', 1)[1]].colour}"


def show_no_runs() -> None:
    st.markdown("There is no run in this folder yet:")
    st.code(str(folder), language=None)
    st.markdown("Make one, then reload this page:")
    st.code("tttdebug run --model llama", language="bash")


def found(runs: list[Summary]) -> list[Summary]:
    """Those that the reader looks for, by words of any part of them and by outcome."""
    counts = Counter(run.outcome for run in runs)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.session_state["find"] = address.find or ""
        st.text_input(
            "Find",
            key="find",
            placeholder="name, model, precision, device or boundary",
            on_change=lambda: Address.set(find=st.session_state["find"] or None),
            width=340,
        )
        outcome = choose(
            "Outcome",
            [outcome for outcome in OUTCOMES if outcome in counts],
            address.outcome if address.outcome in counts else None,
            lambda chosen: {"outcome": chosen},
            st.pills,
            format_func=lambda outcome: f"{OUTCOMES[outcome].symbol} {counts[outcome]:,} {outcome}",
        )
    sought = (address.find or "").lower().split()
    of_outcome = [run for run in runs if outcome in (None, run.outcome)]
    return [run for run in of_outcome if all(word in run.words for word in sought)]


def show_list(runs: list[Summary]) -> None:
    """A cell opens its run; runs whose boxes are ticked can be compared, the newest of them with the others."""
    table = pd.DataFrame([row(run) for run in runs])
    event = st.dataframe(
        table.style.map(outcome_css, subset=["outcome"]),
        column_config=COLUMNS,
        hide_index=True,
        height="content" if len(runs) <= 30 else 1100,
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
        placeholder="",
        key="runs",
    )
    if event.selection.cells:
        go(OVERVIEW, Address(run=runs[event.selection.cells[0][0]].name))
    ticked = [runs[place].name for place in sorted(event.selection.rows)]
    label = f"Compare {counted(len(ticked), 'run')}" if len(ticked) > 1 else "Compare"
    if st.button(label, icon=":material/compare_arrows:", disabled=len(ticked) < 2):
        go(COMPARE, Address(run=ticked[0], against=tuple(ticked[1:])))


address = Address.current()
folder = runs_folder()
st.header("Runs", anchor=False)
paths = find_runs(folder)
with st.spinner(f"Reading {counted(len(paths), 'run')} …"):
    runs = sorted((summary(name, path) for name, path in paths.items()), key=lambda run: run.created, reverse=True)
live = {run.name: paths[run.name] for run in runs if is_live(paths[run.name], run.status)}
if live:
    redraw_on_change(lambda: [stamp_of(path) for path in live.values()])
runs = [replace(run, outcome="running") if run.name in live else run for run in runs]
if not runs:
    show_no_runs()
    st.stop()
st.caption("Click a run to open it; tick two or more to compare them. Click a column's name to sort.")
shown = found(runs)
if shown:
    show_list(shown)
else:
    st.info("No run is like that.", icon=":material/search_off:")
