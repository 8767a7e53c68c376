# SPDX-License-Identifier: Apache-2.0
"""Heat maps over the layers: the worse a cell the darker, with the verdict's symbol in each cell that is not well."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import altair as alt
import numpy as np
import pandas as pd

from charts.scales import LABEL, NAME_WIDTH, PADDING, PICK, round_values
from drawing import Spec, nth_data, spec_of, with_data
from tttdebug.reporting.palette import VERDICTS, VERMILLION
from tttdebug.reporting.wording import size
from wording import call_name, pcc, verdict_label

_IN_FLOORS = "rel L2 / floor"
_WELL = ("ok", "floor", "skipped")
_TALLEST, _LOWEST, _ALL_ROWS = 20, 5, 240  # pixels of one row, of all of them
_AXIS_HEIGHT, _LEGEND_HEIGHT = 30, 62
_LABEL_ROOM = 11  # pixels
_NOTHING = "#80868f1c"  # grey that shows on a light and a dark ground
_SPAN = 30.0  # the least factor between no colour and full colour


def heat_map(
    cells: pd.DataFrame, places: Sequence[str], rows: Sequence[str], name: str, domain: tuple[float, float], ink: str
) -> Spec:
    """Cells by `place` and `row`; `name` says what their badness is, `ink` is the colour of plain text.

    A click selects boundary, phase and step of a cell under the name `PICK`.
    """
    shown = cells.assign(
        shown=cells["badness"].clip(*domain).fillna(domain[0]),
        symbol=[("" if look in _WELL else VERDICTS[look].symbol) for look in cells["look"]],
        verdict_text=[verdict_label(verdict) for verdict in cells["verdict"]],
        badness_text=[size(value) for value in cells["badness"]],
        rel_l2_text=[size(value) for value in cells["rel_l2"]],
        pcc_text=[pcc(value) for value in cells["pcc"]],
        call=[call_name(phase, step) for phase, step in zip(cells["phase"], cells["step"], strict=True)],
    )
    shown = shown.drop(columns=["badness", "rel_l2", "pcc", "verdict", "look"])
    return with_data(_map(tuple(places), tuple(rows), name, domain, ink), shown)


def heat_domain(badness: np.ndarray, name: str) -> tuple[float, float]:
    """From the floor, or else what is usual, to the worst; a factor of `_SPAN` at least, so that noise stays pale."""
    values = badness[np.isfinite(badness) & (badness > 0)]
    low = 1.0 if name == _IN_FLOORS else float(np.median(values)) if len(values) else 1e-3
    high = float(values.max()) if len(values) else low
    return low, max(high, low * _SPAN)


@lru_cache(maxsize=32)
def _map(places: tuple[str, ...], rows: tuple[str, ...], name: str, domain: tuple[float, float], ink: str) -> Spec:
    """A map without its cells: the same for every call of a run."""
    row_height = max(_LOWEST, min(_TALLEST, _ALL_ROWS / len(rows)))
    x = alt.X(
        "place:N",
        scale=alt.Scale(type="band", domain=list(places), paddingInner=0.04, paddingOuter=0),
        axis=alt.Axis(title=None, ticks=False, labelAngle=0, labelFlush=False, labelOverlap="greedy", domain=False),
    )
    y = alt.Y(
        "row:N",
        scale=alt.Scale(type="band", domain=list(rows), paddingInner=0.06 if row_height > 10 else 0, paddingOuter=0),
        axis=alt.Axis(
            title=None,
            ticks=False,
            domain=False,
            labelFlush=False,
            labelBound=False,
            labelOverlap=False if row_height >= _LABEL_ROOM else "greedy",
            labelLimit=NAME_WIDTH - 10,
            minExtent=NAME_WIDTH,
            maxExtent=NAME_WIDTH,
        ),
    )
    colour = alt.Color(
        "shown:Q",
        scale=alt.Scale(type="log", domain=list(domain), range=[_NOTHING, VERMILLION], interpolate="rgb", clamp=True),
        legend=alt.Legend(
            title=name,
            orient="bottom",
            titleOrient="left",
            gradientLength=180,
            gradientThickness=8,
            values=round_values(domain, at_most=4),
            labelExpr=LABEL if name != _IN_FLOORS else 'datum.value + " ×"',
        ),
    )
    pick = alt.selection_point(name=PICK, fields=["boundary", "phase", "step"], on="click", empty=False)
    tooltip = [
        alt.Tooltip("boundary:N"),
        alt.Tooltip("call:N"),
        alt.Tooltip("verdict_text:N", title="verdict"),
        alt.Tooltip("rel_l2_text:N", title="rel L2"),
        alt.Tooltip("pcc_text:N", title="PCC"),
    ]
    if name == _IN_FLOORS:
        tooltip.insert(4, alt.Tooltip("badness_text:N", title="rel L2 / floor"))
    chart = alt.Chart().encode(x=x, y=y)
    tiles = chart.mark_rect(cursor="pointer").encode(color=colour, tooltip=tooltip).add_params(pick)
    layers = [tiles]
    if row_height >= _LABEL_ROOM:
        layers.append(chart.mark_text(fontSize=10, color=ink, tooltip=None).encode(text=alt.Text("symbol:N")))
    height = row_height * len(rows) + _AXIS_HEIGHT + _LEGEND_HEIGHT
    return spec_of(alt.layer(*layers, data=nth_data()).properties(height=height, padding=PADDING))
