# SPDX-License-Identifier: Apache-2.0
"""A button in every chart's toolbar that saves it as SVG, beside Streamlit's own for PNG and for the data as CSV."""

from pathlib import Path

from streamlit.components.v2 import component

_buttons = component("svg_buttons", js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"))


def offer_svg() -> None:
    """Add the buttons to the charts of this page, also to those that come later."""
    _buttons(key="svg buttons", height=0)
