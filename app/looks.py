# SPDX-License-Identifier: Apache-2.0
"""Colours of charts that differ between the light and the dark theme."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Colours:
    """`ink` is for text inside charts, `nothing` the middle of a scale from negative to positive.

    `loud` is the end of a scale from `nothing` on which `ink` can be read.
    """

    ink: str
    nothing: str
    loud: str


LIGHT, DARK = (
    Colours(ink="#31333f", nothing="#f4f4f4", loud="#f0a000"),
    Colours(ink="#fafafa", nothing="#22262e", loud="#a06000"),
)


def colours() -> Colours:
    """Those of the theme that the reader's browser shows."""
    return DARK if st.context.theme.type == "dark" else LIGHT
