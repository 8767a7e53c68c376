# SPDX-License-Identifier: Apache-2.0
"""The error of one boundary: over its tokens, by size, its worst elements, and its tensors where they were saved."""

from __future__ import annotations

from typing import Any

import streamlit as st

from address import Address
from charts.error import error_histogram, token_chart
from choices import choose_measure
from data import token_text
from drawing import draw, spec_of
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record


def show_error(run: OpenedRun, record: Record) -> None:
    """Error per token position, where there is more than one, beside the histogram of the error."""
    profile = run.profile(record.key)
    if profile is None:
        st.info("The run keeps no error profile of this boundary.")
        return
    sizes = st.container()
    if len(profile["token_rel_l2"]) > 1:
        tokens, sizes = st.columns([3, 2], gap="medium")
        with tokens:
            st.subheader("Error per token", anchor=False)
            _tokens(run, record, profile)
    with sizes:
        st.subheader("Sizes of the error", anchor=False)
        draw(spec_of(error_histogram(profile["error_edges"], profile["error_counts"])), key="histogram")


def _tokens(run: OpenedRun, record: Record, profile: dict[str, Any]) -> None:
    by = choose_measure(Address.current())
    texts = token_text(run, record.key)
    chart = token_chart(profile["token_rel_l2"], profile["token_pcc"], texts, record.floor_rel_l2, by)
    draw(spec_of(chart), key=f"tokens {by}")
    st.caption(
        "In the ring: the worst token. Dashed: the floor." if by == "rel_l2" else "In the ring: the worst token."
    )
