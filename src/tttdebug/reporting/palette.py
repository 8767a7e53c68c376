# SPDX-License-Identifier: Apache-2.0
"""How each verdict looks and reads, everywhere: colour, shape, symbol and meaning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VerdictStyle:
    """One verdict's looks. Colour never stands alone: `shape` (a Vega mark or SVG path) and `symbol` tell it too.

    `hue` is the colour name of Streamlit's Markdown that the dashboard's theme sets to `colour`.
    """

    hue: str
    colour: str
    shape: str
    symbol: str
    meaning: str


# After Okabe and Ito (2008), shifted so that each has 3:1 against white and against a dark ground, and that what
# passes (green, blue) stays apart from what fails (rose, vermillion, violet) for the colour-blind too.
GREEN, BLUE, ORANGE, ROSE, VERMILLION, VIOLET, GREY = (
    "#00916A",
    "#2A7FC1",
    "#C98500",
    "#E50053",
    "#DD5500",
    "#9B2FE0",
    "#80868F",
)
_SALTIRE = "M-1,-0.6L-0.6,-1L0,-0.4L0.6,-1L1,-0.6L0.4,0L1,0.6L0.6,1L0,0.4L-0.6,1L-1,0.6L-0.4,0Z"

VERDICTS: dict[str, VerdictStyle] = {
    "ok": VerdictStyle("green", GREEN, "circle", "●", "holds its gate"),
    "floor": VerdictStyle("blue", BLUE, "diamond", "◆", "misses its gate by no more than the number formats cause"),
    "inherited": VerdictStyle("orange", ORANGE, "square", "■", "passes on the error that came in"),
    "amplified": VerdictStyle("yellow", ROSE, "triangle-right", "▶", "enlarges the error that came in"),
    "injected": VerdictStyle("red", VERMILLION, "triangle-up", "▲", "its own error is above the floor"),
    "diverged": VerdictStyle("red", VERMILLION, "triangle-down", "▼", "above the floor; whose fault is not known yet"),
    "nonfinite": VerdictStyle("violet", VIOLET, _SALTIRE, "✖", "holds inf or NaN that the reference does not"),
    "shape_mismatch": VerdictStyle("violet", VIOLET, "cross", "✚", "the two sides' shapes differ"),
    "skipped": VerdictStyle("gray", GREY, "stroke", "–", "was not compared"),
}
"""In the order of reports: what is well first, what could not be compared last."""

PRIMARY = BLUE
"""Links, selected widgets, and lines of charts that carry no verdict."""


def looks_like(verdict: str) -> str:
    """The verdict that this one is drawn as: "skipped:<reason>", and what this version does not know, as skipped."""
    return verdict if verdict in VERDICTS else "skipped"


def style_of(verdict: str) -> VerdictStyle:
    """The looks of a record's verdict."""
    return VERDICTS[looks_like(verdict)]
