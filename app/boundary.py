# SPDX-License-Identifier: Apache-2.0
"""The error of one boundary: over its tokens, by size, its worst elements, and its tensors where they were saved."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from address import Address
from charts.error import error_histogram, token_chart
from choices import choose_measure
from data import token_text
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record
from zoom import parts_of_zoom, row_and_channel


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
        st.altair_chart(error_histogram(profile["error_edges"], profile["error_counts"]), key="histogram")


def _tokens(run: OpenedRun, record: Record, profile: dict[str, Any]) -> None:
    by = choose_measure(Address.current())
    texts = token_text(run, record.key)
    st.altair_chart(
        token_chart(profile["token_rel_l2"], profile["token_pcc"], texts, record.floor_rel_l2, by), key=f"tokens {by}"
    )
    st.caption(
        "In the ring: the worst token. Dashed: the floor." if by == "rel_l2" else "In the ring: the worst token."
    )


def show_worst(run: OpenedRun, record: Record, saved: bool) -> None:
    """The elements of the greatest difference, with their coordinates in the reference's layout.

    Where tensors are `saved` a click on one shows its tile.
    """
    profile = run.profile(record.key)
    if profile is None or not profile["worst"]:
        st.caption("No element differs." if profile else "They were not kept.")
        return
    rows = [
        {
            "at": str(list(index)),
            "reference": float(reference),
            "port": float(port),
            "difference": float(port) - float(reference),
        }
        for index, reference, port in profile["worst"]
    ]
    places = [row_and_channel(index, record.shape) for index, *_ in profile["worst"]]

    def follow() -> None:
        if cells := st.session_state["worst"].selection.cells:
            Address.set(**parts_of_zoom(*places[int(cells[0][0])], "tile"))

    if saved:
        st.caption("Click one to see its tile.")
    number = st.column_config.NumberColumn(format="%.4g")
    selectable: dict[str, Any] = {"on_select": follow, "selection_mode": "single-cell"} if saved else {}
    st.dataframe(
        pd.DataFrame(rows),
        column_config={"reference": number, "port": number, "difference": number},
        hide_index=True,
        height="content",
        placeholder="nan",
        key="worst",
        **selectable,
    )
