# SPDX-License-Identifier: Apache-2.0
"""Error over depth: a panel a kind of module, one above the other, over the same layers and the same scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import altair as alt
import numpy as np
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
from drawing import Spec, nth_data, spec_of, with_data
from places import OUTSIDE, kind_of, place_of
from tttdebug.reporting.palette import GREY, PRIMARY, VERMILLION, looks_like
from tttdebug.reporting.wording import size, times
from tttdebug.tracking.gates import explained_by_floor
from tttdebug.tracking.opened_run import SavedRecords
from tttdebug.tracking.record import Record
from wording import pcc, verdict_label

_PANEL_HEIGHT = 84
_LABEL_HEIGHT = 22
_NOT_DRAWN = ["kind", "rel_l2", "distance", "alone"]


def depth_domain(records: SavedRecords, alone: SavedRecords | None, by: str) -> tuple[float, float]:
    """The ends of a scale that holds the errors of all these records, whichever of their calls is shown."""
    known = [records] if alone is None else [records, alone]
    if by == "distance":
        return domain_of(pd.Series(1 - each.column("pcc")) for each in known)
    floor = records.column("floor_rel_l2")
    greatest = explained_by_floor(float(np.nanmax(floor)), tokens=1) if np.isfinite(floor).any() else math.nan
    return domain_of([*(pd.Series(each.column("rel_l2")) for each in known), pd.Series(floor), pd.Series([greatest])])


def depth_panels(
    records: Sequence[Record], by: str, domain: tuple[float, float], alone: Mapping[str, Record] | None = None
) -> dict[str, Spec]:
    """Panels by kind, in the order of execution; `by` is what the y axis shows, "rel_l2" or "distance" (1 − PCC).

    `alone` has the isolated records by boundary, which are drawn beside the accumulated ones. A click selects the
    nearest point's boundary under the name `PICK`.
    """
    points = pd.DataFrame([_point(record, by, (alone or {}).get(record.boundary)) for record in records])
    places = tuple(dict.fromkeys(points["place"]))
    kinds = sorted(dict.fromkeys(points["kind"]), key=lambda kind: kind == OUTSIDE)
    points["shown"] = drawable(points[by], domain)
    points["alone_shown"] = drawable(points["alone"], domain).where(points["alone"].notna())
    return {
        kind: with_data(
            _panel(places, kind, domain, by == "rel_l2", bool(alone), last=kind == kinds[-1]),
            points[points["kind"] == kind].drop(columns=_NOT_DRAWN),
        )
        for kind in kinds
    }


def _point(record: Record, by: str, alone: Record | None) -> dict[str, object]:
    own = math.nan if alone is None else alone.rel_l2 if by == "rel_l2" else 1 - alone.pcc
    return {
        "boundary": record.boundary,
        "place": place_of(record.boundary),
        "kind": kind_of(record.boundary),
        "look": looks_like(record.verdict),
        "rel_l2": record.rel_l2,
        "distance": 1 - record.pcc,
        "floor": record.floor_rel_l2,
        "limit": record.explained_rel_l2,
        "alone": own,
        "alone_text": "" if math.isnan(own) else size(own),
        "verdict_text": verdict_label(record.verdict),
        "rel_l2_text": size(record.rel_l2),
        "above_floor_text": times(record.above_floor),
        "pcc_text": pcc(record.pcc),
    }


@lru_cache(maxsize=128)
def _panel(
    places: tuple[str, ...], kind: str, domain: tuple[float, float], with_floor: bool, with_alone: bool, last: bool
) -> Spec:
    """A panel without its data: the same for every call of a run."""
    x = alt.X(
        "place:N",
        scale=alt.Scale(type="band", domain=list(places), paddingInner=0, paddingOuter=0),
        axis=alt.Axis(title=None, labels=last, ticks=False, labelAngle=0, labelFlush=False, labelOverlap="greedy"),
    )
    y = alt.Y(
        "shown:Q",
        scale=log_scale(domain),
        axis=log_axis(
            domain,
            title=kind,
            titleAngle=0,
            titleAlign="left",
            titleBaseline="middle",
            titleX=-NAME_WIDTH,
            titleLimit=NAME_WIDTH - 40,
            minExtent=NAME_WIDTH,
            maxExtent=NAME_WIDTH,
        ),
    )
    chart = alt.Chart()
    pick = alt.selection_point(name=PICK, fields=["boundary"], nearest=True, on="click", empty=False)
    marks = (
        chart.mark_point(filled=True, size=70, opacity=1, cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=alt.Color("look:N", scale=VERDICT_COLOUR, legend=None),
            shape=alt.Shape("look:N", scale=VERDICT_SHAPE, legend=None),
            tooltip=[
                alt.Tooltip("boundary:N"),
                alt.Tooltip("verdict_text:N", title="verdict"),
                alt.Tooltip("rel_l2_text:N", title="rel L2"),
                alt.Tooltip("above_floor_text:N", title="floors"),
                alt.Tooltip("pcc_text:N", title="PCC"),
                alt.Tooltip("alone_text:N", title="alone"),
            ],
        )
        .add_params(pick)
    )
    line = chart.mark_line(color=GREY, strokeWidth=1.5, opacity=0 if kind == OUTSIDE else 0.7).encode(x=x, y=y)
    layers = [line, marks]
    if with_alone:
        layers = [*_alone(chart, x, domain, kind), *layers]
    if with_floor:
        layers = [*_floor(chart.transform_filter("isValid(datum.floor)"), x, domain), *layers]
    height = _PANEL_HEIGHT + _LABEL_HEIGHT * last
    return spec_of(alt.layer(*layers, data=nth_data()).properties(height=height, padding=PADDING))


def _alone(chart: alt.Chart, x: alt.X, domain: tuple[float, float], kind: str) -> list[alt.Chart]:
    """The isolated error: a dashed line through hollow points."""
    own = chart.transform_filter("isValid(datum.alone_shown)")
    y = alt.Y("alone_shown:Q", scale=log_scale(domain))
    line = own.mark_line(color=PRIMARY, strokeDash=[3, 3], strokeWidth=1.2, opacity=0 if kind == OUTSIDE else 0.9)
    points = own.mark_point(color=PRIMARY, size=28, strokeWidth=1.2, tooltip=None)
    return [line.encode(x=x, y=y), points.encode(x=x, y=y)]


def _floor(chart: alt.Chart, x: alt.X, domain: tuple[float, float]) -> list[alt.Chart]:
    """The floor as a band from below, and the line up to which the number formats explain an error."""
    scale = log_scale(domain)
    band = chart.mark_bar(color=GREY, opacity=0.2, width=alt.RelativeBandSize(1), tooltip=None).encode(
        x=x, y=alt.Y("floor:Q", scale=scale), y2=alt.Y2Datum(domain[0])
    )
    limit = chart.mark_tick(color=VERMILLION, thickness=1.2, opacity=0.6, tooltip=None).encode(
        x=x, y=alt.Y("limit:Q", scale=scale)
    )
    return [band, limit]
