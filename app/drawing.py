# SPDX-License-Identifier: Apache-2.0
"""Charts on a page: drawn without checking them against Vega-Lite's schema, which takes longer than all the rest."""

from __future__ import annotations

from typing import Any

import altair as alt
import streamlit as st

from charts.scales import PICK

Spec = dict[str, Any]
"""A chart as Vega-Lite reads it: quick to keep between two looks at a page."""


def spec_of(chart: alt.Chart | alt.LayerChart) -> Spec:
    with alt.data_transformers.enable("default", max_rows=None):  # a page bounds what it draws by itself
        spec: Spec = chart.to_dict(validate=False)
    return spec


def draw(spec: Spec, key: str) -> None:
    """A chart that is looked at only."""
    st.vega_lite_chart(spec, key=key)


def pick_from(spec: Spec, key: str) -> dict[str, Any] | None:
    """A chart that can be clicked: the fields of what was, if anything."""
    event = st.vega_lite_chart(spec, on_select="rerun", selection_mode=PICK, key=key)
    picked = event.selection[PICK]
    return dict(picked[0]) if picked else None
