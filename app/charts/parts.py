# SPDX-License-Identifier: Apache-2.0
"""The error of a tensor's parts: its heads, users, shards, and channels."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from charts.scales import PADDING, domain_of, drawable, log_axis, log_scale
from tttdebug.reporting.palette import GREY, ORANGE, PRIMARY
from tttdebug.reporting.wording import size

_HEIGHT = 200
_LEGEND = alt.Legend(title=None, orient="top")
_MOST_POINTS = 400


def part_chart(names: Sequence[str], rel_l2: Sequence[float], floor: float, title: str) -> alt.LayerChart:
    """The rel L2 of each part; the floor dashed."""
    parts = pd.DataFrame({"part": names, "rel_l2": rel_l2, "text": [size(value) for value in rel_l2]})
    floors = pd.DataFrame({"floor": [floor] if floor > 0 else []}, dtype=float)
    domain = domain_of([parts["rel_l2"], floors["floor"]])
    parts["shown"] = drawable(parts["rel_l2"], domain)
    scale = log_scale(domain)
    points = (
        alt.Chart(parts)
        .mark_point(filled=True, color=PRIMARY, size=55, opacity=1)
        .encode(
            x=alt.X("part:N", sort=None, axis=alt.Axis(title=title, grid=False, labelAngle=0, labelOverlap="greedy")),
            y=alt.Y("shown:Q", scale=scale, axis=log_axis(domain, title="rel L2")),
            tooltip=[alt.Tooltip("part:N", title=title), alt.Tooltip("text:N", title="rel L2")],
        )
    )
    floor_line = alt.Chart(floors).mark_rule(color=GREY, strokeDash=[4, 3], tooltip=None)
    return alt.layer(floor_line.encode(y=alt.Y("floor:Q", scale=scale)), points).properties(
        height=_HEIGHT, padding=PADDING
    )


def channel_chart(reference_C: np.ndarray, error_C: np.ndarray) -> alt.Chart:
    """The greatest magnitude of the reference and the greatest difference over the channels; of many, the greatest of
    each few.
    """
    together = -(-len(reference_C) // _MOST_POINTS)
    starts = np.arange(0, len(reference_C), together)
    sides = {"reference": reference_C, "difference": error_C}
    lines = pd.concat(
        pd.DataFrame({"channel": starts, "side": f"max |{side}|", "value": np.maximum.reduceat(values_C, starts)})
        for side, values_C in sides.items()
    )
    names = [f"max |{side}|" for side in sides]
    domain = domain_of([lines["value"]])
    lines["shown"], lines["text"] = drawable(lines["value"], domain), [size(value) for value in lines["value"]]
    return (
        alt.Chart(lines)
        .mark_point(filled=True, opacity=0.8, size=18)
        .encode(
            x=alt.X(
                "channel:Q",
                scale=alt.Scale(domain=[0, len(reference_C)], nice=False),
                axis=alt.Axis(title="channel", grid=False, format="d"),
            ),
            y=alt.Y("shown:Q", scale=log_scale(domain), axis=log_axis(domain, title="greatest magnitude")),
            color=alt.Color(
                "side:N",
                scale=alt.Scale(domain=names, range=[PRIMARY, ORANGE]),
                legend=_LEGEND,
            ),
            shape=alt.Shape("side:N", scale=alt.Scale(domain=names, range=["circle", "triangle-up"]), legend=_LEGEND),
            tooltip=[
                alt.Tooltip("channel:Q", title="channel" if together == 1 else f"{together} channels from", format="d"),
                alt.Tooltip("side:N"),
                alt.Tooltip("text:N", title="value"),
            ],
        )
        .properties(height=260, padding=PADDING)
    )
