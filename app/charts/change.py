# SPDX-License-Identifier: Apache-2.0
"""What became of every boundary since another run: layer by module, orange where it is worse, blue where better."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from charts.scales import NAME_WIDTH, PADDING, PICK
from places import OUTSIDE, kind_of, place_of
from tttdebug.reporting.palette import BLUE, VERMILLION
from tttdebug.reporting.wording import size
from tttdebug.testing.comparing import Change

_ROW, _AXIS_HEIGHT, _LEGEND_HEIGHT = 22, 30, 62
_LEAST_FULL = math.log(1.5)
"""The least ln of a factor at full colour, so that noise stays pale."""
_NOTHING = "#80868f1c"  # grey that shows on a light and a dark ground
SYMBOLS = {"worse": "▲", "vanished": "✖", "better": "▼", "appeared": "✚", "same": ""}


def change_map(changes: Sequence[Change], ink: str) -> alt.LayerChart:
    """Changes of one phase and mode. A click selects a boundary under the name `PICK`; `ink` is for text."""
    cells = pd.DataFrame([_cell(change) for change in changes])
    full = max(_LEAST_FULL, float(cells["ln"].abs().max(skipna=True)) if cells["ln"].notna().any() else 0.0)
    kinds = sorted(dict.fromkeys(cells["kind"]), key=lambda kind: kind == OUTSIDE)
    x = alt.X(
        "place:N",
        scale=alt.Scale(type="band", domain=list(dict.fromkeys(cells["place"])), paddingInner=0.04, paddingOuter=0),
        axis=alt.Axis(title=None, ticks=False, labelAngle=0, labelFlush=False, labelOverlap="greedy", domain=False),
    )
    y = alt.Y(
        "kind:N",
        scale=alt.Scale(type="band", domain=kinds, paddingInner=0.06, paddingOuter=0),
        axis=alt.Axis(
            title=None,
            ticks=False,
            domain=False,
            labelFlush=False,
            labelBound=False,
            labelOverlap=False,
            labelLimit=NAME_WIDTH - 10,
            minExtent=NAME_WIDTH,
            maxExtent=NAME_WIDTH,
        ),
    )
    colour = alt.Color(
        "shown:Q",
        scale=alt.Scale(domain=[-full, 0, full], range=[BLUE, _NOTHING, VERMILLION], interpolate="rgb", clamp=True),
        legend=alt.Legend(
            title="rel L2, after / before",
            orient="bottom",
            titleOrient="left",
            gradientLength=180,
            gradientThickness=8,
            values=[-full, 0, full],
            labelExpr="format(exp(datum.value), '.2~g') + ' ×'",
        ),
    )
    tooltip = [
        alt.Tooltip("boundary:N"),
        alt.Tooltip("what:N", title="change"),
        alt.Tooltip("factor:N", title="after / before"),
        alt.Tooltip("before:N", title="rel L2 before"),
        alt.Tooltip("after:N", title="rel L2 after"),
        alt.Tooltip("why:N"),
    ]
    pick = alt.selection_point(name=PICK, fields=["boundary"], on="click", empty=False)
    chart = alt.Chart().encode(x=x, y=y)
    return alt.layer(
        chart.mark_rect(cursor="pointer").encode(color=colour, tooltip=tooltip).add_params(pick),
        chart.mark_text(fontSize=10, color=ink, tooltip=None).encode(text=alt.Text("symbol:N")),
        data=cells,
    ).properties(height=_ROW * len(kinds) + _AXIS_HEIGHT + _LEGEND_HEIGHT, padding=PADDING)


def _cell(change: Change) -> dict[str, object]:
    ln = math.log(change.factor) if 0 < change.factor < math.inf else math.nan
    known = not math.isnan(change.factor)
    return {
        "boundary": change.place.boundary,
        "place": place_of(change.place.boundary),
        "kind": kind_of(change.place.boundary),
        "ln": ln,
        "shown": ln if math.isfinite(ln) else 0.0 if not known else math.copysign(1e3, change.factor - 1),
        "what": change.kind,
        "symbol": SYMBOLS[change.kind],
        "factor": size(change.factor) if known else "",
        "before": "" if change.before is None else size(change.before.rel_l2),
        "after": "" if change.after is None else size(change.after.rel_l2),
        "why": change.why,
    }
