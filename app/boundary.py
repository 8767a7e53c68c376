# SPDX-License-Identifier: Apache-2.0
"""The error of one boundary: over its tokens, by size, its worst elements, and its tensors where they were saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from address import Address
from charts.error import error_histogram, token_chart
from charts.maps import full_colour, tensor_chart
from choices import choose_measure
from data import Stamp, open_run, stamp_of, token_text
from looks import colours
from tensor_map import TensorMap, max_pooled
from tttdebug.reporting.wording import size
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Key, Record


@dataclass(frozen=True)
class Maps:
    """A saved pair and its difference, ready to draw."""

    reference: TensorMap
    port: TensorMap
    difference: TensorMap


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


def show_worst(run: OpenedRun, record: Record) -> None:
    """The elements of the greatest difference, with their coordinates in the reference's layout."""
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
    number = st.column_config.NumberColumn(format="%.4g")
    st.dataframe(
        pd.DataFrame(rows),
        column_config={"reference": number, "port": number, "difference": number},
        hide_index=True,
        height="content",
        placeholder="nan",
        key="worst",
    )


def show_tensors(run: OpenedRun, record: Record) -> None:
    """Reference, port and difference as maps."""
    st.subheader("Tensors", anchor=False)
    maps = _maps(run.path, stamp_of(run.path), record.key)
    if maps is None:
        st.caption("This boundary's tensors were not saved. To keep them, run again with:")
        st.code("tttdebug run … --save-tensors all", language="bash")
        return
    row_name = "token" if len(record.shape) == 2 else "row"
    full = full_colour(maps.reference, maps.port)
    shown = {
        "Reference": (maps.reference, full, True),
        "Port": (maps.port, full, True),
        "|port − reference|": (maps.difference, full_colour(maps.difference), False),
    }
    for column, (title, (tensor, limit, signed)) in zip(st.columns(3), shown.items(), strict=True):
        with column:
            st.markdown(f"**{title}**")
            st.altair_chart(
                tensor_chart(tensor, limit, signed=signed, nothing=colours().nothing, row_name=row_name),
                key=f"map {title}",
            )
    st.caption(
        f"{_cell(maps.reference)} "
        f"Colours are full at the 99th percentile of the cells: {size(full)} for the values, "
        f"{size(full_colour(maps.difference))} for the difference. Violet: not finite."
    )


@st.cache_data(max_entries=64, show_spinner="Reading the tensors …")
def _maps(path: Path, stamp: Stamp, key: Key) -> Maps | None:
    pair = open_run(path).tensors(key)
    if pair is None:
        return None
    reference_RC, port_RC = (tensor.reshape(-1, tensor.shape[-1]).double().numpy() for tensor in pair)
    return Maps(max_pooled(reference_RC), max_pooled(port_RC), max_pooled(abs(port_RC - reference_RC)))


def _cell(pooled: TensorMap) -> str:
    if pooled.rows_a_cell == pooled.channels_a_cell == 1:
        return "A cell is one value."
    return f"A cell is {pooled.rows_a_cell} × {pooled.channels_a_cell} values and shows the strongest of them."
