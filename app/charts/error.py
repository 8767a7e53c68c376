# SPDX-License-Identifier: Apache-2.0
"""What the error of one boundary looks like: over the token positions, and by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import altair as alt
import pandas as pd

from charts.scales import PADDING, colour_if, domain_of, drawable, log_axis, log_scale
from tttdebug.reporting.palette import GREY, PRIMARY, VERMILLION
from tttdebug.reporting.wording import size
from wording import pcc, share

_HEIGHT = 260


def token_chart(
    rel_l2: Sequence[float], token_pcc: Sequence[float], texts: Mapping[int, str], floor: float, by: str
) -> alt.LayerChart:
    """Error of each token position, `by` "rel_l2" or "distance" (1 − PCC), the worst in a ring; the floor dashed."""
    tokens = pd.DataFrame(
        {
            "position": range(len(rel_l2)),
            "token": [texts.get(position, "") for position in range(len(rel_l2))],
            "rel_l2": rel_l2,
            "distance": [1 - value for value in token_pcc],
            "rel_l2_text": [size(value) for value in rel_l2],
            "pcc_text": [pcc(value) for value in token_pcc],
        }
    )
    floors = pd.DataFrame({"floor": [floor] if by == "rel_l2" and floor > 0 else []}, dtype=float)
    domain = domain_of([tokens[by], floors["floor"]])
    tokens["shown"] = drawable(tokens[by], domain)
    worst = tokens.loc[[tokens["shown"].idxmax()]].assign(
        name=lambda row: "worst: token " + row["position"].astype(str)
    )
    x = alt.X(
        "position:Q",
        scale=alt.Scale(domain=[-0.5, len(tokens) - 0.5], nice=False),
        axis=alt.Axis(title="token position", grid=False, tickMinStep=1, format="d"),
    )
    y = alt.Y(
        "shown:Q",
        scale=log_scale(domain),
        axis=log_axis(domain, labels=6, title="rel L2" if by == "rel_l2" else "1 − PCC"),
    )
    tooltip = [
        alt.Tooltip("position:Q", title="position", format="d"),
        alt.Tooltip("token:N"),
        alt.Tooltip("rel_l2_text:N", title="rel L2"),
        alt.Tooltip("pcc_text:N", title="PCC"),
    ]
    chart, worst_chart = alt.Chart(tokens).encode(x=x, y=y), alt.Chart(worst).encode(x=x, y=y)
    left = int(worst["position"].iloc[0]) < len(tokens) / 2
    return alt.layer(
        alt.Chart(floors)
        .mark_rule(color=GREY, strokeDash=[4, 3], tooltip=None)
        .encode(y=alt.Y("floor:Q", scale=log_scale(domain))),
        chart.mark_line(color=PRIMARY, strokeWidth=1, opacity=0.5, tooltip=None),
        chart.mark_point(color=PRIMARY, filled=True, size=30, opacity=1).encode(tooltip=tooltip),
        worst_chart.mark_point(color=VERMILLION, size=130, strokeWidth=2).encode(tooltip=tooltip),
        worst_chart.mark_text(
            color=VERMILLION, align="left" if left else "right", dx=11 if left else -11, dy=-9, tooltip=None
        ).encode(text=alt.Text("name:N")),
    ).properties(height=_HEIGHT, padding=PADDING)


def error_histogram(edges: Sequence[float], counts: Sequence[int]) -> alt.Chart:
    """How many elements have an error of which size: bins are octaves, the first (grey) holds all that is smaller."""
    total = sum(counts) or 1
    lows = [edges[1] / 2, *edges[1:-1]]
    sizes = [
        f"below {size(edges[1])}, or none",
        *(f"{size(low)} to {size(high)}" for low, high in pairwise(edges[1:])),
    ]
    bins = pd.DataFrame(
        {
            "low": lows,
            "high": edges[1:],
            "elements": counts,
            "share": [count / total for count in counts],
            "share_text": [share(count / total) for count in counts],
            "size": sizes,
            "rest": [True] + [False] * (len(counts) - 1),
        }
    )
    domain = (lows[0], edges[-1])
    return (
        alt.Chart(bins)
        .mark_rect(strokeWidth=0)
        .encode(
            x=alt.X(
                "low:Q",
                scale=log_scale(domain),
                axis=log_axis(domain, labels=7, title="|port − reference|", grid=False),
            ),
            x2=alt.X2("high"),
            y=alt.Y("share:Q", axis=alt.Axis(title="share of elements", format=".0%", tickCount=5)),
            y2=alt.Y2Datum(0),
            color=colour_if("datum.rest", GREY, PRIMARY),
            tooltip=[
                alt.Tooltip("size:N", title="error"),
                alt.Tooltip("elements:Q", format=","),
                alt.Tooltip("share_text:N", title="share"),
            ],
        )
        .properties(height=_HEIGHT, padding=PADDING)
    )
