# SPDX-License-Identifier: Apache-2.0
"""Maps of a tensor, token by channel."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from charts.scales import PADDING
from tensor_map import TensorMap
from tttdebug.reporting.palette import BLUE, ORANGE, VIOLET
from tttdebug.reporting.wording import size

_SATURATES_AT = 99.0
"""Percentile of the cells' magnitudes at which the colour is full, so that one outlier does not blank the rest."""


def full_colour(*maps: TensorMap) -> float:
    """The magnitude at which maps that share a colour scale are at full colour."""
    cells = np.concatenate([np.abs(shown.values[np.isfinite(shown.values)]).ravel() for shown in maps])
    return float(np.percentile(cells, _SATURATES_AT)) if len(cells) and cells.max() > 0 else 1.0


def tensor_chart(shown: TensorMap, full: float, *, signed: bool, nothing: str, row_name: str) -> alt.Chart:
    """One map. Signed values run from blue through nothing to orange, magnitudes from nothing to full.

    `nothing` is the colour of zero.
    """
    rows, columns = shown.values.shape
    row, column = np.divmod(np.arange(rows * columns), columns)
    values = shown.values.ravel()
    cells = pd.DataFrame(
        {
            "row": row * shown.rows_a_cell,
            "channel": column * shown.channels_a_cell,
            "row_end": (row + 1) * shown.rows_a_cell,
            "channel_end": (column + 1) * shown.channels_a_cell,
            "value": values,
            "text": [size(value) if np.isfinite(value) else "not finite" for value in values],
            "finite": np.isfinite(values),
        }
    )
    scale = (
        alt.Scale(domain=[-full, 0, full], range=[BLUE, nothing, ORANGE], interpolate="rgb", clamp=True)
        if signed
        else alt.Scale(domain=[0, full], scheme="viridis", clamp=True)
    )
    return (
        alt.Chart(cells)
        .mark_rect()
        .encode(
            x=alt.X("channel:Q", axis=alt.Axis(title="channel", grid=False), scale=alt.Scale(nice=False)),
            x2="channel_end:Q",
            y=alt.Y("row:Q", axis=alt.Axis(title=row_name, grid=False), scale=alt.Scale(nice=False, reverse=True)),
            y2="row_end:Q",
            color=alt.condition(
                "datum.finite",
                alt.Color("value:Q", scale=scale, legend=alt.Legend(title=None, orient="bottom", gradientThickness=8)),
                alt.value(VIOLET),
            ),
            tooltip=[
                alt.Tooltip("row:Q", title=f"from {row_name}"),
                alt.Tooltip("channel:Q", title="from channel"),
                alt.Tooltip("text:N", title="value"),
            ],
        )
        .properties(height=280, padding=PADDING)
    )
