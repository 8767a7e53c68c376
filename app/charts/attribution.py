# SPDX-License-Identifier: Apache-2.0
"""Whose error it is: of each module of a layer what it errs alone, what it passes on, and what both make together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from charts.scales import (
    NAME_WIDTH,
    PADDING,
    PICK,
    VERDICT_COLOUR,
    VERDICT_SHAPE,
    domain_of,
    drawable,
    log_axis,
    log_scale,
)
from tttdebug.reporting.palette import GREY, ORANGE, PRIMARY, looks_like
from tttdebug.reporting.wording import size
from tttdebug.tracking.record import Record

_ROW, _AXIS = 34, 56  # pixels


def attribution(
    records: Sequence[Record], own: Mapping[str, Record], passed_on: Mapping[str, Record]
) -> alt.LayerChart:
    """A row a boundary. A click selects one under the name `PICK`."""
    rows = pd.DataFrame([_row(record, own.get(record.boundary), passed_on.get(record.boundary)) for record in records])
    domain = domain_of([rows["all"], rows["own"], rows["passed"], rows["floor"]])
    for name in ("own", "passed", "floor"):
        rows[name] = drawable(rows[name], domain).where(rows[name].notna())
    rows["all"] = drawable(rows["all"], domain)
    scale = log_scale(domain)
    y = alt.Y(
        "kind:N",
        sort=list(rows["kind"]),
        axis=alt.Axis(title=None, ticks=False, domain=False, minExtent=NAME_WIDTH, maxExtent=NAME_WIDTH),
    )

    def x(name: str) -> alt.X:
        return alt.X(f"{name}:Q", scale=scale, axis=log_axis(domain, labels=8, title="rel L2"))

    tooltip = [
        alt.Tooltip("boundary:N"),
        alt.Tooltip("all_text:N", title="accumulated"),
        alt.Tooltip("own_text:N", title="isolated"),
        alt.Tooltip("passed_text:N", title="inherited"),
        alt.Tooltip("floor_text:N", title="floor"),
    ]
    pick = alt.selection_point(name=PICK, fields=["boundary"], on="click", empty=False)
    chart = alt.Chart().encode(y=y)
    return alt.layer(
        chart.transform_filter("isValid(datum.floor)")
        .mark_bar(color=GREY, opacity=0.2, tooltip=None)
        .encode(x=x("floor"), x2=alt.X2Datum(domain[0])),
        chart.transform_filter("isValid(datum.passed)")
        .mark_point(shape="square", color=ORANGE, size=80, strokeWidth=2)
        .encode(x=x("passed"), tooltip=tooltip),
        chart.transform_filter("isValid(datum.own)")
        .mark_point(color=PRIMARY, size=80, strokeWidth=2)
        .encode(x=x("own"), tooltip=tooltip),
        chart.mark_point(filled=True, size=80, opacity=1, cursor="pointer")
        .encode(
            x=x("all"),
            color=alt.Color("look:N", scale=VERDICT_COLOUR, legend=None),
            shape=alt.Shape("look:N", scale=VERDICT_SHAPE, legend=None),
            tooltip=tooltip,
        )
        .add_params(pick),
        data=rows,
    ).properties(height=_ROW * len(rows) + _AXIS, padding=PADDING)


def _row(record: Record, own: Record | None, passed_on: Record | None) -> dict[str, object]:
    values = {
        "all": record.rel_l2,
        "own": None if own is None else own.rel_l2,
        "passed": None if passed_on is None else passed_on.rel_l2,
        "floor": record.floor_rel_l2,
    }
    texts = {f"{name}_text": "not known" if value is None else size(value) for name, value in values.items()}
    said = {name: float("nan") if value is None else value for name, value in values.items()}
    return {
        "boundary": record.boundary,
        "kind": record.boundary.rpartition(".")[2],
        "look": looks_like(record.verdict),
        **said,
        **texts,
    }
