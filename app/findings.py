# SPDX-License-Identifier: Apache-2.0
"""What an explanation found: a card a finding, with its evidence, the change that mends it, and how to see it again."""

from __future__ import annotations

import json
import math
import shlex

import pandas as pd
import streamlit as st

from address import MODULE, Address, link
from tttdebug.analysis.explanation import Explanation
from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.reporting.findings import records_text, sentence_of, verdict_text
from tttdebug.reporting.format_costs import format_costs
from tttdebug.reporting.wording import size
from tttdebug.tracking.opened_run import OpenedRun
from wording import code, plain, share, verdict_mark

_COSTS = 4
_NUMBER = st.column_config.NumberColumn(format="%.3g")


def show_explanation(explanation: Explanation, run: OpenedRun, address: Address) -> None:
    """The findings, ranked; where there is none, what the number formats cost."""
    st.subheader("What is wrong" if explanation.detected else "Nothing is wrong", anchor=False)
    if not explanation.findings:
        st.text(verdict_text(explanation).plain.partition("  ")[2])
    for place, finding in enumerate(explanation, start=1):
        with st.container(border=True, key=f"finding {place}"):
            _card(finding, place, run, address)
    if not explanation.detected:
        _costs(run)
    for note in explanation.notes:
        st.text(f"Note: {note}")


def show_how_to_explain(run: OpenedRun) -> None:
    """The command that explains a run which fails and was not explained yet."""
    if run.failed and run.manifest.finished and run.manifest.job:
        st.caption("What causes this, and what mends it, says:")
        st.code(_again(run), language="bash")


def _card(finding: Finding, place: int, run: OpenedRun, address: Address) -> None:
    cause = plain(finding.cause) if finding.confirmed else "cause not known"
    mark = verdict_mark("injected")
    st.markdown(f"{mark} **{place}. {plain(finding.boundary)}: {cause}**")
    st.text(sentence_of(finding))
    if finding.experiments:
        _experiments(finding.experiments, place)
    for line in finding.where:
        st.text(line)
    if not math.isnan(finding.share):
        st.markdown(f"{share(finding.share)} of the final error is gone with the reference's module in its place.")
    if finding.fix is not None:
        _change(finding.fix)
    if finding.candidates:
        with st.expander("Also tried" if finding.confirmed else "Came nearest", expanded=not finding.confirmed):
            for tried in finding.candidates:
                st.text(f"{tried.cause}: {tried.says} (rel L2 {size(tried.rel_l2)} left)")
    if finding.records:
        st.markdown(f"Shown by {code(records_text(finding.records))}")
        own = [key for key in finding.records if key.boundary == finding.boundary]
        first = (own or finding.records)[0]
        at = address.at(boundary=first.boundary, phase=first.phase, step=first.step, user=first.user, mode=first.mode)
        link(MODULE, at, f"Look at {plain(first.boundary)} alone", icon=":material/arrow_forward:")
    if run.manifest.job:
        st.caption("To find it again:")
        st.code(_again(run), language="bash", wrap_lines=True)


def _experiments(experiments: tuple[Experiment, ...], place: int) -> None:
    rows = [
        {"experiment": tried.what, "metric": tried.metric, "before": tried.before, "after": tried.after}
        | {"floor": tried.floor}
        for tried in experiments
    ]
    st.dataframe(
        pd.DataFrame(rows),
        column_config=dict.fromkeys(("before", "after", "floor"), _NUMBER),
        hide_index=True,
        height="content",
        placeholder="nan",
        key=f"experiments {place}",
    )


def _change(fix: Fix) -> None:
    st.markdown("**Change**")
    st.text(fix.says)
    if fix.code:
        st.code(fix.code, language="python", wrap_lines=True)
    if fix.settings:
        st.caption("In decoder_config.json:")
        st.code(json.dumps(dict(fix.settings), indent=1), language="json")


def _costs(run: OpenedRun) -> None:
    rows = [
        {
            "module": cost.kind,
            "median rel L2": cost.rel_l2,
            "floor": cost.floor,
            "worst": cost.worst,
            "its rel L2": cost.worst_rel_l2,
            "formats": cost.formats,
        }
        for cost in format_costs(run)[:_COSTS]
    ]
    st.dataframe(
        pd.DataFrame(rows),
        column_config=dict.fromkeys(("median rel L2", "floor", "its rel L2"), _NUMBER),
        hide_index=True,
        height="content",
        key="costs",
    )


def _again(run: OpenedRun) -> str:
    return f"tttdebug explain {shlex.quote(str(run.path))}"
