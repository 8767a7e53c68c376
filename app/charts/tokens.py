# SPDX-License-Identifier: Apache-2.0
"""Text coloured by KL, and the margin of each prediction against its KL. Texts are drawn, never interpreted."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from charts.scales import PADDING, PICK, colour_if, domain_of, drawable, log_axis, log_scale
from looks import DARK, Colours
from predictions import BEYOND, COLUMNS, NONFINITE, SAME, UNJUDGED, WITHIN
from tttdebug.analysis.ties import TIE
from tttdebug.reporting.palette import BLUE, GREY, ORANGE, PRIMARY, VERDICTS, VERMILLION, VIOLET

KL_SHOWN = (1e-3, 1.0)
"""KL, in nats, of no colour and of full colour: the same for every run, so that runs can be compared by eye."""
_SHAPES = {
    SAME: "circle",
    WITHIN: "diamond",
    BEYOND: "triangle-up",
    UNJUDGED: "square",
    NONFINITE: VERDICTS["nonfinite"].shape,
}
_COLOURS = {SAME: GREY, WITHIN: BLUE, BEYOND: VERMILLION, UNJUDGED: ORANGE, NONFINITE: VIOLET}
_GUTTER = 11  # characters left of the text, for positions
_ROW_HEIGHT, _LEGEND_HEIGHT = 23, 62
_FONT = "Source Code Pro, monospace"
_FONT_SIZE = f"min(18, 1.6 * width / {COLUMNS + _GUTTER})"
_SAID = {
    "text": "token",
    "kl_text": "KL",
    "margin_text": "margin",
    "flip": "first choice",
    "reference_top": "reference",
    "port_top": "port",
}
_TOOLTIP = [alt.Tooltip("position:Q"), *(alt.Tooltip(f"{name}:N", title=title) for name, title in _SAID.items())]


def text_chart(placed: pd.DataFrame, chosen: int, colours: Colours) -> alt.LayerChart:
    """Tokens of `laid_out` as they stand in the text; a click selects a position under the name `PICK`."""
    rows = int(placed["row"].max()) + 1
    cells = placed[["position", "row", "phase", *_SAID]].assign(
        top=placed["row"] + 0.08,
        bottom=placed["row"] + 0.92,
        left=placed["start"] + 0.06,
        right=placed["end"] - 0.06,
        middle=(placed["start"] + placed["end"]) / 2,
        line_middle=placed["row"] + 0.5,
        finite=placed["kl"].map(math.isfinite),
        drawn=placed["kl"].clip(*KL_SHOWN).fillna(KL_SHOWN[1]),
    )
    x_scale = alt.Scale(domain=[-_GUTTER, COLUMNS], nice=False, zero=False)
    y_scale = alt.Scale(domain=[0, rows], nice=False, reverse=True)
    y_middle = alt.Y("line_middle:Q", scale=y_scale, axis=None)
    box = {
        "x": alt.X("left:Q", scale=x_scale, axis=None),
        "x2": alt.X2("right"),
        "y": alt.Y("top:Q", scale=y_scale, axis=None),
        "y2": alt.Y2("bottom"),
    }
    chart = alt.Chart(cells)
    colour = alt.Color(
        "drawn:Q",
        scale=alt.Scale(type="log", domain=list(KL_SHOWN), range=[colours.nothing, colours.loud], interpolate="rgb"),
        legend=alt.Legend(
            title="KL (nats)",
            orient="top",
            titleOrient="left",
            values=[1e-3, 1e-2, 1e-1, 1],
            format="~g",
            gradientThickness=10,
            gradientLength=240,
        ),
    )
    ground = chart.mark_rect(cornerRadius=2).encode(**box, color=colour_if("datum.finite", colour, VIOLET))
    outlines = [
        chart.transform_filter(alt.FieldOneOfPredicate("flip", kinds))
        .mark_rect(fillOpacity=0, stroke=colours.ink, strokeWidth=2, strokeDash=dash, cornerRadius=2)
        .encode(**box)
        for kinds, dash in (([BEYOND, UNJUDGED, NONFINITE], [1, 0]), ([WITHIN], [3, 2]))
    ]
    here = (
        alt.Chart(cells[cells["position"] == chosen])
        .mark_rect(fillOpacity=0, stroke=PRIMARY, strokeWidth=3.5, cornerRadius=2)
        .encode(**box)
    )
    size = alt.expr(_FONT_SIZE)
    words = chart.mark_text(font=_FONT, fontSize=size).encode(
        x=alt.X("middle:Q", scale=x_scale, axis=None),
        y=y_middle,
        text=alt.Text("text:N"),
        color=colour_if("datum.finite", colours.ink, DARK.ink),
    )
    firsts = cells.drop_duplicates("row")
    new_phase = firsts["phase"].ne(firsts["phase"].shift())
    labels = firsts["position"].map("{:,}".format)
    named = firsts.assign(label=labels.where(~new_phase, firsts["phase"] + " " + labels), gutter=-0.8)
    numbers = (
        alt.Chart(named[["label", "line_middle", "gutter"]])
        .mark_text(font=_FONT, fontSize=alt.expr(f"0.85 * {_FONT_SIZE}"), color=GREY, align="right")
        .encode(x=alt.X("gutter:Q", scale=x_scale, axis=None), y=y_middle, text=alt.Text("label:N"))
    )
    pick = alt.selection_point(name=PICK, fields=["position"])
    touched = chart.mark_rect(fillOpacity=0, cursor="pointer").encode(**box, tooltip=_TOOLTIP).add_params(pick)
    return (
        alt.layer(ground, *outlines, here, numbers, words, touched)
        .properties(height=rows * _ROW_HEIGHT + _LEGEND_HEIGHT, padding=PADDING)
        .configure_view(strokeWidth=0)
    )


def margin_chart(tokens: pd.DataFrame, chosen: int, noise: float, colours: Colours) -> alt.LayerChart:
    """A point a token: the reference's margin, and the KL of the prediction. Left of the band's end flips are ties.

    `noise` is that of a logit in the chosen token's call, nan where it is not known.
    """
    domain = domain_of([tokens["kl"]])
    kinds = [kind for kind in _SHAPES if (tokens["flip"] == kind).any()]
    points = tokens[["position", "margin", *_SAID]].assign(shown=drawable(tokens["kl"], domain))
    points = points.sort_values("flip", key=lambda flips: flips.map(kinds.index), kind="stable")
    x = alt.X("margin:Q", scale=alt.Scale(type="sqrt", nice=False, zero=True), axis=alt.Axis(title="margin (logits)"))
    y = alt.Y("shown:Q", scale=log_scale(domain), axis=log_axis(domain, title="KL (nats)"))
    pick = alt.selection_point(name=PICK, fields=["position"], nearest=True)
    chart = alt.Chart(points)
    marks = (
        chart.mark_point(filled=True, opacity=0.85, cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "flip:N",
                scale=alt.Scale(domain=kinds, range=[_COLOURS[kind] for kind in kinds]),
                legend=alt.Legend(title="first choice", orient="top"),
            ),
            shape=alt.Shape("flip:N", scale=alt.Scale(domain=kinds, range=[_SHAPES[kind] for kind in kinds])),
            size=alt.condition(f"datum.flip === '{SAME}'", alt.value(30), alt.value(90)),
            tooltip=_TOOLTIP,
        )
        .add_params(pick)
    )
    here = (
        alt.Chart(points[points["position"] == chosen])
        .mark_point(size=260, color=PRIMARY, strokeWidth=2.5, tooltip=None)
        .encode(x=x, y=y)
    )
    layers = [marks, here]
    if math.isfinite(noise):
        limit = pd.DataFrame({"from": [0.0], "to": [min(TIE * math.sqrt(2) * noise, float(tokens["margin"].max()))]})
        band = alt.Chart(limit).mark_rect(color=GREY, opacity=0.15, tooltip=None)
        band = band.encode(x=alt.X("from:Q"), x2=alt.X2("to"))
        layers = [band, *layers]
    return alt.layer(*layers).properties(height=300, padding=PADDING)
