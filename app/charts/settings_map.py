# SPDX-License-Identifier: Apache-2.0
"""Maps of settings: number formats and math fidelities, setting by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from charts.scales import PADDING, PICK
from tttdebug.reporting.palette import BLUE, VERMILLION

_ROW_HEIGHT = 22
_NAME_WIDTH = 150
_LABELLED = 48  # places whose cells are wide enough for a label
_FAINTEST, _STRONGEST = 0.06, 0.62  # a label in the colour of text is read on both


def settings_map(cells: pd.DataFrame, places: Sequence[str], grades: Mapping[str, str], ink: str) -> alt.LayerChart:
    """Cells of `settings_cells`, the coarser the stronger; `grades` are all values from coarse to fine.

    Changed cells are framed. A click selects a boundary under the name `PICK`.
    """
    step = (_STRONGEST - _FAINTEST) / max(1, len(grades) - 1)
    strengths = {value: _STRONGEST - step * place for place, value in enumerate(grades)}
    cells = cells.assign(strength=cells["value"].map(strengths).fillna(0.0))
    x = alt.X(
        "place:N",
        scale=alt.Scale(type="band", domain=list(places), paddingInner=0, paddingOuter=0),
        axis=alt.Axis(title=None, ticks=False, labelAngle=0, labelFlush=False, labelOverlap="greedy"),
    )
    y = alt.Y(
        "setting:N",
        scale=alt.Scale(type="band", domain=list(dict.fromkeys(cells["setting"])), paddingInner=0.12),
        axis=alt.Axis(title=None, ticks=False, domain=False, minExtent=_NAME_WIDTH, maxExtent=_NAME_WIDTH),
    )
    chart = alt.Chart(cells).encode(x=x, y=y)
    pick = alt.selection_point(name=PICK, fields=["boundary"], on="click", empty=False)
    layers = [
        chart.mark_rect(color=BLUE, stroke=BLUE, strokeWidth=0.5, cursor="pointer")
        .encode(
            opacity=alt.Opacity("strength:Q", scale=None),
            tooltip=[
                alt.Tooltip("place:N"),
                alt.Tooltip("setting:N"),
                alt.Tooltip("about:N", title="of"),
                alt.Tooltip("detail:N", title="is"),
            ],
        )
        .add_params(pick),
        chart.transform_filter("datum.changed").mark_rect(filled=False, stroke=VERMILLION, strokeWidth=2, tooltip=None),
    ]
    if len(places) <= _LABELLED:
        layers.append(chart.mark_text(color=ink, fontSize=10, tooltip=None).encode(text=alt.Text("label:N")))
    rows = cells["setting"].nunique()
    return alt.layer(*layers).properties(height=rows * _ROW_HEIGHT + _ROW_HEIGHT, padding=PADDING)
