# SPDX-License-Identifier: Apache-2.0
"""Where to look in a tensor: its worst elements and its outstanding channels, each a way to its tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from address import Address
from saved_tensors import Tensors, strongest_within
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record
from zoom import parts_of_zoom, row_and_channel

_LISTED = 8
_HEIGHT = 252
_NUMBER = st.column_config.NumberColumn(format="%.4g")


def show_places(run: OpenedRun, record: Record, tensors: Tensors | None) -> None:
    """Tables side by side; where tensors were saved a click on a row leads to its tile."""
    several = tensors is not None and tensors.pair.channels > 1
    elements, *others = st.columns(3 if several else 1, gap="medium")
    with elements:
        st.markdown("**Worst elements**")
        _elements(run, record, tensors)
    if tensors is None:
        return
    drawn = tensors.drawn
    ranked = {
        "Channels of the greatest error": drawn.of_channels.error,
        "Channels of the greatest values": drawn.channel_reference,
    }
    for column, (title, values_C) in zip(others, ranked.items(), strict=False):
        with column:
            st.markdown(f"**{title}**")
            _channels(tensors, np.argsort(-np.nan_to_num(values_C, nan=np.inf), kind="stable")[:_LISTED], title)


def _elements(run: OpenedRun, record: Record, tensors: Tensors | None) -> None:
    """With their coordinates in the reference's layout."""
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
    _table(pd.DataFrame(rows), "worst", None if tensors is None else places.__getitem__)


def _channels(tensors: Tensors, channels: np.ndarray, key: str) -> None:
    pair, drawn = tensors.pair, tensors.drawn
    frame = pd.DataFrame(
        {
            "channel": channels,
            "max |ref.|": drawn.channel_reference[channels],
            "max |diff.|": drawn.channel_error[channels],
            "rel L2": drawn.of_channels.rel_l2()[channels],
        }
    )

    def place(row: int) -> tuple[int, int]:
        channel = int(channels[row])
        first = int(drawn.channel_band[channel]) * drawn.difference.rows_a_cell
        rows = slice(first, min(first + drawn.difference.rows_a_cell, pair.rows))
        return strongest_within(pair, rows, slice(channel, channel + 1))

    _table(frame, key, place)


def _table(frame: pd.DataFrame, key: str, place: Callable[[int], tuple[int, int]] | None) -> None:
    """A table whose rows lead to the tile of the element that `place` gives, where it gives one."""

    def follow() -> None:
        if place is not None and (cells := st.session_state[key].selection.cells):
            Address.set(**parts_of_zoom(*place(int(cells[0][0])), "tile"))

    selectable: dict[str, Any] = {} if place is None else {"on_select": follow, "selection_mode": "single-cell"}
    st.dataframe(
        frame,
        column_config=dict.fromkeys(frame.columns[1:], _NUMBER),
        hide_index=True,
        height=_HEIGHT,
        placeholder="nan",
        key=key,
        **selectable,
    )
