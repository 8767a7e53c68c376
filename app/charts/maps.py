# SPDX-License-Identifier: Apache-2.0
"""Maps of a tensor, token by channel."""

from __future__ import annotations

from collections.abc import Iterable

import altair as alt
import numpy as np
import pandas as pd

from charts.scales import CELLS, PADDING, PICK, colour_if
from looks import Colours
from tensor_map import FACE, TILE, TensorMap
from tttdebug.reporting.palette import BLUE, GREY, ORANGE, VERMILLION, VIOLET

_SATURATES_AT = 99.0
"""Percentile of the cells' magnitudes at which the colour is full, so that one outlier does not blank the rest."""
_HEIGHT = 290
_MOST_LINES = 40
"""Of more borders of tiles than this, none is drawn."""


def full_colour(*maps: TensorMap) -> float:
    """The magnitude at which maps that share a colour scale are at full colour."""
    cells = np.concatenate([np.abs(shown.values[np.isfinite(shown.values)]).ravel() for shown in maps])
    return float(np.percentile(cells, _SATURATES_AT)) if len(cells) and cells.max() > 0 else 1.0


def tensor_chart(
    shown: TensorMap, full: float, *, signed: bool, colours: Colours, row_name: str, ring: tuple[int, int] | None = None
) -> alt.LayerChart:
    """One map. Signed values run from blue through nothing to orange, magnitudes from nothing to full.

    A click selects a cell's first `row` and `channel` under `PICK`. `ring` marks one value. Lines part tiles; within
    a single tile, faces.
    """
    scale = (
        alt.Scale(domain=[-full, 0, full], range=[BLUE, colours.nothing, ORANGE], interpolate="rgb", clamp=True)
        if signed
        else alt.Scale(domain=[0, full], scheme="viridis", clamp=True)
    )
    x_scale = alt.Scale(domain=[shown.channel, shown.channel_end], nice=False)
    y_scale = alt.Scale(domain=[shown.row_end, shown.row], nice=False)
    axis = {"grid": False, "format": "d", "tickMinStep": 1}

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", axis=alt.Axis(title="channel", **axis), scale=x_scale)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", axis=alt.Axis(title=row_name, **axis), scale=y_scale)

    pick = alt.selection_point(name=PICK, fields=["row", "channel"], on="click", empty=False)
    cells = (
        alt.Chart(_cells(shown))
        .mark_rect(cursor="pointer")
        .encode(
            x=x("channel"),
            x2=alt.X2("channel_end"),
            y=y("row"),
            y2=alt.Y2("row_end"),
            color=colour_if(
                "datum.finite",
                alt.Color("value:Q", scale=scale, legend=alt.Legend(title=None, orient="bottom", gradientThickness=8)),
                VIOLET,
            ),
            tooltip=[
                alt.Tooltip("rows:N", title=row_name),
                alt.Tooltip("channels:N", title="channel"),
                alt.Tooltip("value:Q", title="value", format=".4~g"),
            ],
        )
        .properties(name=CELLS)
        .add_params(pick)
    )
    within_a_tile = shown.row_end - shown.row <= TILE and shown.channel_end - shown.channel <= TILE
    step = FACE if within_a_tile else TILE
    marks = [
        alt.Chart(pd.DataFrame({field: places}))
        .mark_rule(color=GREY, strokeWidth=0.6, opacity=0.8, tooltip=None)
        .encode(**{channel: encoding(field)})
        for field, channel, encoding, places in (
            ("channel", "x", x, _borders(shown.channel, shown.channel_end, step)),
            ("row", "y", y, _borders(shown.row, shown.row_end, step)),
        )
        if places
    ]
    if ring is not None:
        at = pd.DataFrame({"row": [ring[0] + 0.5], "channel": [ring[1] + 0.5]})
        marks.append(
            alt.Chart(at)
            .mark_point(color=VERMILLION, size=160, strokeWidth=2, tooltip=None)
            .encode(x=x("channel"), y=y("row"))
        )
    return alt.layer(cells, *marks).properties(height=_HEIGHT, padding=PADDING)


def _cells(shown: TensorMap) -> pd.DataFrame:
    rows, columns = shown.values.shape
    row, column = np.divmod(np.arange(rows * columns), columns)
    first_row, row_end = _edges(shown.row, shown.rows_a_cell, shown.row_end, rows)
    first_channel, channel_end = _edges(shown.channel, shown.channels_a_cell, shown.channel_end, columns)
    values = shown.values.ravel()
    return pd.DataFrame(
        {
            "row": first_row[row],
            "channel": first_channel[column],
            "row_end": row_end[row],
            "channel_end": channel_end[column],
            "rows": _spans(first_row, row_end)[row],
            "channels": _spans(first_channel, channel_end)[column],
            "value": values,
            "finite": np.isfinite(values),
        }
    )


def _edges(first: int, step: int, end: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of a row's or column's cells begins and ends."""
    starts = first + step * np.arange(cells)
    return starts, np.minimum(starts + step, end)


def _spans(firsts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    pairs = zip(firsts.tolist(), ends.tolist(), strict=True)
    return np.array([str(first) if end == first + 1 else f"{first} to {end - 1}" for first, end in pairs])


def _borders(first: int, end: int, step: int) -> list[int]:
    """The multiples of `step` inside of a range, where they are not too many to see anything else."""
    inside: Iterable[int] = range(first // step * step + step, end, step)
    found = list(inside)
    return found if len(found) <= _MOST_LINES else []
