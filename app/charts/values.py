# SPDX-License-Identifier: Apache-2.0
"""The values of both sides: one against the other, how they are spread, and how many bfloat16 steps they are apart."""

from __future__ import annotations

import math
from itertools import pairwise

import altair as alt
import numpy as np
import pandas as pd

from charts.scales import PADDING, colour_if
from scatter import BINS, Grid
from tttdebug.reporting.palette import BLUE, GREY, ORANGE, PRIMARY, VERMILLION, VIOLET
from tttdebug.reporting.wording import size
from wording import share

_HEIGHT = 300
_LEGEND = alt.Legend(title=None, orient="top")


def scatter_chart(grid: Grid, slope: float) -> alt.LayerChart:
    """Reference against port, darker where more elements are; the line of equality dashed, that of `slope` in red."""
    edges = _edges(grid)
    i, j = np.nonzero(grid.counts)
    counts = grid.counts[i, j]
    cells = pd.DataFrame(
        {
            "reference": edges[i],
            "reference_end": edges[i + 1],
            "port": edges[j],
            "port_end": edges[j + 1],
            "elements": counts,
            "references": [f"{size(edges[a])} to {size(edges[a + 1])}" for a in i],
            "ports": [f"{size(edges[b])} to {size(edges[b + 1])}" for b in j],
        }
    )
    scale = alt.Scale(domain=[-grid.limit, grid.limit], nice=False)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=alt.Axis(title="reference", grid=False, tickCount=5))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=scale, axis=alt.Axis(title="port", grid=False, tickCount=5))

    density = (
        alt.Chart(cells)
        .mark_rect(strokeWidth=0)
        .encode(
            x=x("reference"),
            x2=alt.X2("reference_end"),
            y=y("port"),
            y2=alt.Y2("port_end"),
            color=alt.Color(
                "elements:Q",
                scale=alt.Scale(type="log", scheme="viridis", domainMin=1),
                legend=alt.Legend(title="elements", orient="right", gradientThickness=8, format="~s"),
            ),
            tooltip=[
                alt.Tooltip("references:N", title="reference"),
                alt.Tooltip("ports:N", title="port"),
                alt.Tooltip("elements:Q", format=","),
            ],
        )
    )
    lines = [_line(x, y, grid.limit, 1.0, GREY, [4, 3])]
    if math.isfinite(slope):
        lines.append(_line(x, y, grid.limit, slope, VERMILLION, [1, 0]))
    return alt.layer(density, *lines).properties(height=_HEIGHT, padding=PADDING)


def _line(x: object, y: object, limit: float, slope: float, colour: str, dash: list[int]) -> alt.Chart:
    """The line through zero with a slope, as far as it lies within ±limit."""
    end = limit / max(1.0, abs(slope))
    ends = pd.DataFrame({"reference": [-end, end], "port": [-end * slope, end * slope]})
    return (
        alt.Chart(ends)
        .mark_line(color=colour, strokeDash=dash, strokeWidth=1.3, tooltip=None)
        .encode(x=x("reference"), y=y("port"))  # type: ignore[operator]
    )


def value_chart(grid: Grid) -> alt.Chart:
    """How many elements of either side have which value, on a log scale, over the grid's range."""
    edges = _edges(grid)
    sides = {"reference": grid.counts.sum(axis=1), "port": grid.counts.sum(axis=0)}
    bins = pd.concat(
        pd.DataFrame(
            {
                "value": edges[:-1],
                "side": side,
                "elements": counts,
                "shown": np.where(counts > 0, counts, 0.5),
                "values": [f"{size(low)} to {size(high)}" for low, high in pairwise(edges)],
            }
        )
        for side, counts in sides.items()
    )
    return (
        alt.Chart(bins)
        .mark_line(interpolate="step-after", strokeWidth=1.6)
        .encode(
            x=alt.X(
                "value:Q",
                scale=alt.Scale(domain=[-grid.limit, grid.limit], nice=False),
                axis=alt.Axis(title="value", grid=False, tickCount=5),
            ),
            y=alt.Y(
                "shown:Q",
                scale=alt.Scale(type="log", domainMin=0.5),
                axis=alt.Axis(title="elements", format="~s", tickCount=4, grid=False),
            ),
            color=alt.Color(
                "side:N",
                scale=alt.Scale(domain=["reference", "port"], range=[BLUE, ORANGE]),
                legend=_LEGEND,
            ),
            strokeDash=alt.StrokeDash(
                "side:N", scale=alt.Scale(domain=["reference", "port"], range=[[1, 0], [5, 3]]), legend=_LEGEND
            ),
            tooltip=[alt.Tooltip("side:N"), "values:N", alt.Tooltip("elements:Q", format=",")],
        )
        .properties(height=_HEIGHT, padding=PADDING)
    )


def step_chart(counts: np.ndarray) -> alt.Chart:
    """How many elements are how many bfloat16 steps apart; the last count is of pairs that are not finite."""
    names = ["0", "1", *(f"{1 << b - 1:,} to {(1 << b) - 1:,}" for b in range(2, len(counts) - 1)), "not finite"]
    short = ["0", "1", *(f"{_short(1 << b - 1)}+" for b in range(2, len(counts) - 1)), "n.f."]
    last = max(int(np.flatnonzero(counts[:-1]).max(initial=0)), 3)
    kept = [*range(last + 1), *([len(counts) - 1] if counts[-1] else [])]
    total = int(counts.sum()) or 1
    bins = pd.DataFrame(
        {
            "steps": [short[k] for k in kept],
            "names": [names[k] for k in kept],
            "elements": [int(counts[k]) for k in kept],
            "share": [int(counts[k]) / total for k in kept],
            "share_text": [share(int(counts[k]) / total) for k in kept],
            "finite": [k < len(counts) - 1 for k in kept],
        }
    )
    return (
        alt.Chart(bins)
        .mark_bar()
        .encode(
            x=alt.X("steps:N", sort=None, axis=alt.Axis(title="bfloat16 steps apart", labelAngle=0)),
            y=alt.Y("share:Q", axis=alt.Axis(title="share of elements", format=".0%", tickCount=5)),
            color=colour_if("datum.finite", PRIMARY, VIOLET),
            tooltip=[
                alt.Tooltip("names:N", title="steps apart"),
                alt.Tooltip("elements:Q", format=","),
                alt.Tooltip("share_text:N", title="share"),
            ],
        )
        .properties(height=_HEIGHT, padding=PADDING)
    )


def _short(number: int) -> str:
    return str(number) if number < 1000 else f"{number // 1024}k"


def _edges(grid: Grid) -> np.ndarray:
    return np.linspace(-grid.limit, grid.limit, BINS + 1)
