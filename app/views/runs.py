# SPDX-License-Identifier: Apache-2.0
"""The runs under the folder: which is good, which is not, and where it is worst."""

import pandas as pd
import streamlit as st

from address import OVERVIEW, Address, go
from data import Summary, find_runs, runs_folder, summary
from tttdebug.reporting.palette import VERDICTS
from wording import moment

OUTCOMES = {
    "passed": VERDICTS["ok"],
    "failed": VERDICTS["diverged"],
    "incomplete": VERDICTS["skipped"],
    "unfinished": VERDICTS["skipped"],
    "unreadable": VERDICTS["nonfinite"],
}


def row(run: Summary) -> dict[str, str]:
    return {
        "run": run.name,
        "outcome": f"{OUTCOMES[run.outcome].symbol} {run.outcome}",
        "failing": f"{run.failing:,} of {run.compared:,}" if run.compared else "",
        "first divergence": run.first_divergence,
        "worst boundary": run.worst,
        "model": run.model,
        "precision": run.precision,
        "device": run.device,
        "date": moment(run.created),
    }


def outcome_css(label: str) -> str:
    return f"color: {OUTCOMES[label.split(' ', 1)[1]].colour}"


folder = runs_folder()
st.header("Runs", anchor=False)
runs = sorted(
    (summary(name, path) for name, path in find_runs(folder).items()), key=lambda run: run.created, reverse=True
)
if not runs:
    st.markdown("There is no run in this folder yet:")
    st.code(str(folder), language=None)
    st.markdown("Make one, then reload this page:")
    st.code("tttdebug run --model llama", language="bash")
    st.stop()
st.caption("Click a run to open it, or pick it in the sidebar.")
table = pd.DataFrame([row(run) for run in runs])
event = st.dataframe(
    table.style.map(outcome_css, subset=["outcome"]),
    hide_index=True,
    height="content",
    on_select="rerun",
    selection_mode="single-cell",
    key="runs",
)
if event.selection.cells:
    go(OVERVIEW, Address(run=runs[event.selection.cells[0][0]].name))
