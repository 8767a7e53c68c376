# SPDX-License-Identifier: Apache-2.0
"""Charts and tables that can be clicked. Charts are not held against Vega-Lite's schema: that would take longest."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
from altair.utils import schemapi
from pandas.io.formats.style import Styler

from charts.scales import PICK

Spec = dict[str, Any]
"""A chart as Vega-Lite reads it, with its data apart: where only they change, a browser keeps the rest as it is."""
_AS_SVG = {"usermeta": {"embedOptions": {"renderer": "svg"}}}
"""So that it can be saved as one; Streamlit takes a canvas for more than 2,000 marks."""
_ONE_AT_A_TIME = Lock()
"""How Altair takes in data is set for all readers at once."""
schemapi.disable_debug_mode()  # else each part of a chart is held against the schema as it is made


def spec_of(chart: alt.Chart | alt.LayerChart) -> Spec:
    """A chart; its data are named by their order in it, so that another call's have the same names."""
    datasets: dict[str, pd.DataFrame] = {}

    def set_aside(data: pd.DataFrame) -> dict[str, str]:
        name = next((name for name, known in datasets.items() if known is data), f"data {len(datasets)}")
        datasets[name] = data
        return {"name": name}

    with _ONE_AT_A_TIME:
        alt.data_transformers.register("set aside", set_aside)
        with alt.data_transformers.enable("set aside"):
            spec: Spec = chart.to_dict(validate=False)
    return spec | _AS_SVG | {"datasets": datasets}


def nth_data(number: int = 0) -> alt.NamedData:
    """A place in a chart for data that `with_data` puts there."""
    return alt.NamedData(f"data {number}")


def with_data(spec: Spec, *data: pd.DataFrame) -> Spec:
    """The spec of a chart over `nth_data`, with these data."""
    return spec | {"datasets": {nth_data(number).name: frame for number, frame in enumerate(data)}}


def draw(spec: Spec, key: str, on_click: Callable[[dict[str, Any]], None] | None = None) -> None:
    """A chart; a click calls `on_click` with the fields of what was clicked, before the page is drawn anew."""
    if on_click is None:
        st.vega_lite_chart(spec, key=key)
        return

    def clicked() -> None:
        if picked := st.session_state[key].selection[PICK]:
            on_click(dict(picked[0]))

    st.vega_lite_chart(spec, on_select=clicked, selection_mode=PICK, key=key)


def pick_row(frame: pd.DataFrame | Styler, key: str, **look: Any) -> int | None:
    """A table that can be clicked: the number of the row that was, if any."""
    event = st.dataframe(frame, hide_index=True, on_select="rerun", selection_mode="single-cell", key=key, **look)
    cells = event.selection.cells
    return int(cells[0][0]) if cells else None


def pick_from(spec: Spec, key: str) -> dict[str, Any] | None:
    """A chart that can be clicked: the fields of what was, if anything."""
    event = st.vega_lite_chart(spec, on_select="rerun", selection_mode=PICK, key=key)
    picked = event.selection[PICK]
    return dict(picked[0]) if picked else None
