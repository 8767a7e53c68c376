# SPDX-License-Identifier: Apache-2.0
"""Charts as figures: each can be taken away as SVG, beside the PNG and the CSV that Streamlit's own toolbar gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import streamlit as st
from streamlit.components.v2 import component

_DRAWN_AS_SVG = {"embedOptions": {"renderer": "svg"}}  # Streamlit takes a canvas for charts of more than 2,000 marks
_svg_buttons = component("svg_buttons", js=(Path(__file__).parent / "figures.js").read_text(encoding="utf-8"))


def show_chart(chart: alt.TopLevelMixin, **options: Any) -> Any:
    """`st.altair_chart`, with the same options and event, of a chart that can be taken away as SVG."""
    return st.altair_chart(chart.properties(usermeta=_DRAWN_AS_SVG), **options)


def offer_svg() -> None:
    """Put "Download as SVG" into the toolbar of every chart on the page; once a page."""
    _svg_buttons(key="svg buttons", height=0)
