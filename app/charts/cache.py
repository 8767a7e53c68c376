# SPDX-License-Identifier: Apache-2.0
"""The error of a key/value cache: over layers and positions, over heads and positions, and in both rotary orders."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from charts.scales import CELLS, PADDING, PICK, drawable, log_axis, log_scale, round_values
from tttdebug.reporting.palette import ORANGE, PRIMARY
from tttdebug.reporting.wording import size

MOST_COLUMNS = 160
_AXIS = 50  # pixels
_LABEL = "replace(format(datum.value, '~e'), '+', '')"
_LEGEND = alt.Legend(title=None, orient="top", labelLimit=400)


def heat_chart(
    errors_RP: np.ndarray,
    rows: Sequence[str],
    domain: tuple[float, float],
    *,
    row_title: str,
    decode_from: int | None,
    clickable: bool = False,
    chosen: str | None = None,
    legend: bool = True,
) -> alt.LayerChart:
    """The error of each row at each position, of many positions the greatest of each few.

    A dashed line stands where decoding begins. A click selects a row under `PICK` as `row`; `chosen` is in a frame.
    """
    pooled, together = max_over(errors_RP, MOST_COLUMNS)
    row, column = np.nonzero(~np.isnan(pooled))
    errors = pd.Series(pooled[row, column])
    first = column * together
    end = np.minimum(first + together, errors_RP.shape[1])
    cells = pd.DataFrame(
        {
            "row": [rows[i] for i in row.tolist()],
            "position": first,
            "end": end,
            "positions": [str(a) if b == a + 1 else f"{a} to {b - 1}" for a, b in zip(first, end, strict=True)],
            "shown": drawable(errors, domain),
            "text": [size(value) for value in errors],
        }
    )
    x_scale = alt.Scale(domain=[0, errors_RP.shape[1]], nice=False)
    x_axis = alt.Axis(title="token position", grid=False, format="d", tickMinStep=1)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=x_axis)

    height = max(7, min(28, 420 // len(rows)))
    y = alt.Y(
        "row:N",
        sort=None,
        scale=alt.Scale(domain=list(rows), padding=0),
        axis=alt.Axis(title=row_title, grid=False, labelOverlap="greedy"),
    )
    pick = alt.selection_point(name=PICK, fields=["row"], on="click", empty=False)
    heat = (
        alt.Chart(cells)
        .mark_rect(strokeWidth=0, **({"cursor": "pointer"} if clickable else {}))
        .encode(
            x=x("position"),
            x2=alt.X2("end"),
            y=y,
            color=alt.Color(
                "shown:Q",
                scale=alt.Scale(type="log", domain=list(domain), scheme="viridis", clamp=True),
                legend=_colours(domain) if legend else None,
            ),
            tooltip=[
                alt.Tooltip("row:N", title=row_title),
                alt.Tooltip("positions:N", title="position"),
                alt.Tooltip("text:N", title="rel L2"),
            ],
        )
        .properties(name=CELLS)
    )
    layers: list[alt.Chart] = [heat.add_params(pick) if clickable else heat]
    if decode_from is not None:
        border = alt.Chart(pd.DataFrame({"position": [decode_from]}))
        layers.append(border.mark_rule(color="white", strokeDash=[4, 3], tooltip=None).encode(x=x("position")))
    if chosen is not None:
        frame = alt.Chart(pd.DataFrame({"row": [chosen], "position": [0], "end": [errors_RP.shape[1]]}))
        layers.append(
            frame.mark_rect(fill=None, stroke=ORANGE, strokeWidth=2, tooltip=None).encode(
                x=x("position"), x2=alt.X2("end"), y=y
            )
        )
    return alt.layer(*layers).properties(height=height * len(rows) + _AXIS, padding=PADDING)


def _colours(domain: tuple[float, float]) -> alt.Legend:
    return alt.Legend(
        title="rel L2", gradientThickness=8, values=round_values(domain, 4), labelExpr=_LABEL, orient="right"
    )


def max_over(values_RP: np.ndarray, at_most: int) -> tuple[np.ndarray, int]:
    """The greatest of each few columns, so that at most so many are left, and of how many each is the greatest."""
    together = -(-values_RP.shape[1] // at_most)
    return np.fmax.reduceat(values_RP, np.arange(0, values_RP.shape[1], together), axis=1), together


def order_chart(
    layers: Sequence[str],
    as_read: Sequence[float],
    other: Sequence[float],
    names: tuple[str, str],
    domain: tuple[float, float],
) -> alt.Chart:
    """The error of each layer's keys, read in one rotary order and in the other; `names` are those of the orders."""
    orders = list(names)
    points = pd.concat(
        pd.DataFrame({"layer": list(layers), "order": name, "rel_l2": list(errors)})
        for name, errors in zip(orders, (as_read, other), strict=True)
    )
    points["shown"], points["text"] = drawable(points["rel_l2"], domain), [size(value) for value in points["rel_l2"]]
    return (
        alt.Chart(points)
        .mark_point(filled=True, size=50, opacity=0.9)
        .encode(
            x=alt.X("layer:N", sort=None, axis=alt.Axis(title="layer", grid=False, labelOverlap="greedy")),
            y=alt.Y("shown:Q", scale=log_scale(domain), axis=log_axis(domain, title="rel L2 of the keys")),
            color=alt.Color("order:N", scale=alt.Scale(domain=orders, range=[PRIMARY, ORANGE]), legend=_LEGEND),
            shape=alt.Shape("order:N", scale=alt.Scale(domain=orders, range=["circle", "diamond"]), legend=_LEGEND),
            tooltip=["layer:N", alt.Tooltip("order:N", title="read as"), alt.Tooltip("text:N", title="rel L2")],
        )
        .properties(height=220, padding=PADDING)
    )
