# SPDX-License-Identifier: Apache-2.0
"""Charts and tables that can be clicked. Charts are not held against Vega-Lite's schema: that takes longest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from charts.scales import PICK

Spec = dict[str, Any]
"""A chart as Vega-Lite reads it: quick to keep between two looks at a page."""
_AS_SVG = {"usermeta": {"embedOptions": {"renderer": "svg"}}}
"""So that it can be saved as one; Streamlit takes a canvas for more than 2,000 marks."""


def spec_of(chart: alt.Chart | alt.LayerChart) -> Spec:
    with alt.data_transformers.enable("default", max_rows=None):  # a page bounds what it draws by itself
        spec: Spec = chart.to_dict(validate=False) | _AS_SVG
    return spec


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
