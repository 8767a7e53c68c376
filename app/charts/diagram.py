# SPDX-License-Identifier: Apache-2.0
"""A layer as a diagram of the data's way through it: boxes coloured by verdict, sums, and what lies inside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import altair as alt
import numpy as np
import pandas as pd

from charts.scales import PADDING, PICK, VERDICT_COLOUR
from drawing import Spec, nth_data, spec_of, with_data
from flow import Flow, Node
from tttdebug.reporting.palette import GREY, looks_like
from tttdebug.reporting.wording import size, times
from tttdebug.tracking.record import Record
from wording import pcc, verdict_label

_UNIT = 96  # pixels of a box's height
_WIDEST = 150  # pixels of a box's width
_HEAD = 0.05  # how far before its end the middle of an arrow's head is
_LINE_OFFSETS = {"name": -30, "verdict": -10, "error": 11, "more": 29}  # pixels from a box's centre


def layer_diagram(
    flow: Flow,
    records: Mapping[str, Record],
    own: Mapping[str, Record],
    passed_on: Mapping[str, Record],
    ink: str,
) -> Spec:
    """Boxes that hold name, verdict, rel L2 and what it is alone, or its multiple of the floor.

    `records` are the layer's by boundary, `own` the isolated ones, `passed_on` the inherited ones, which know the error
    of what comes in; `ink` is the colour of plain text. A click selects a boundary under `PICK`.
    """
    boxes = pd.DataFrame(
        [_box(node, records[node.boundary], own.get(node.boundary)) for node in flow.nodes if node.boundary]
    )
    labels = pd.DataFrame(
        [
            {"x": node.x, "y": node.y, "text": node.label, "error": _error_of_value(node, passed_on)}
            for node in flow.nodes
            if not node.boundary
        ],
        columns=["x", "y", "text", "error"],
    )
    lines = pd.DataFrame([vars(line) for line in flow.lines], columns=["x", "y", "to_x", "to_y", "head"]).astype(float)
    return with_data(_diagram(flow.width, flow.height, ink), boxes, lines, _heads(lines), labels)


@lru_cache(maxsize=32)
def _diagram(width: float, height: float, ink: str) -> Spec:
    """A diagram of that size without its boxes, lines, arrows' heads and labels."""
    x_scale = alt.Scale(domain=[0, max(width, 1.0)], nice=False)
    y_scale = alt.Scale(domain=[height, 0], nice=False)

    def x(name: str) -> alt.X:
        return alt.X(f"{name}:Q", scale=x_scale, axis=None)

    def y(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", scale=y_scale, axis=None)

    colour = alt.Color("look:N", scale=VERDICT_COLOUR, legend=None)
    pick = alt.selection_point(name=PICK, fields=["boundary"], on="click", empty=False)
    chart = alt.Chart()
    frames = (
        chart.mark_rect(cornerRadius=6, strokeWidth=2, fillOpacity=0.1, cursor="pointer")
        .encode(
            x=x("left"),
            x2=alt.X2("right"),
            y=y("top"),
            y2=alt.Y2("bottom"),
            stroke=alt.Stroke("look:N", scale=VERDICT_COLOUR, legend=None),
            fill=alt.Fill("look:N", scale=VERDICT_COLOUR, legend=None),
            tooltip=[alt.Tooltip(f"{name}:N") for name in ("boundary", "verdict", "error", "more", "pcc")],
        )
        .add_params(pick)
    )
    texts = [
        chart.transform_filter("!datum.small")
        .mark_text(
            dy=offset,
            fontSize=13 if line == "name" else 12,
            fontWeight="bold" if line in ("name", "verdict") else "normal",
            color=ink,
            tooltip=None,
        )
        .encode(x=x("x"), y=y("y"), text=alt.Text(f"{line}:N"), **({"color": colour} if line == "verdict" else {}))
        for line, offset in _LINE_OFFSETS.items()
    ]
    small = [
        chart.transform_filter("datum.small")
        .mark_text(dy=offset, fontSize=11, color=ink, tooltip=None)
        .encode(x=x("x"), y=y("y"), text=alt.Text(f"{line}:N"), **({"color": colour} if line == "marked" else {}))
        for line, offset in {"marked": -8, "error": 8}.items()
    ]
    wires = (
        alt.Chart(nth_data(1))
        .mark_rule(color=GREY, tooltip=None)
        .encode(x=x("x"), y=y("y"), x2=alt.X2("to_x"), y2=alt.Y2("to_y"))
    )
    arrows = (
        alt.Chart(nth_data(2))
        .mark_point(shape="triangle", filled=True, color=GREY, size=50, opacity=1, tooltip=None)
        .encode(x=x("to_x"), y=y("to_y"), angle=alt.Angle("angle:Q", scale=None))
    )
    names = [
        alt.Chart(nth_data(3))
        .mark_text(color=ink, fontSize=font, dy=offset, tooltip=None)
        .encode(x=x("x"), y=y("y"), text=alt.Text(f"{line}:N"))
        for line, font, offset in (("text", 14, 0), ("error", 11, 15))
    ]
    drawing = alt.layer(wires, arrows, *names, alt.layer(frames, *texts, *small, data=nth_data()))
    return spec_of(drawing.properties(height=height * _UNIT, padding=PADDING))


def diagram_width(flow: Flow) -> int:
    """Pixels beyond which the boxes would only be emptier."""
    return round(flow.width * _WIDEST)


def _heads(lines: pd.DataFrame) -> pd.DataFrame:
    """Where the heads of arrows are, and by how many degrees each, which points up, is turned."""
    heads = lines[lines["head"] > 0]
    down = (heads["to_y"] - heads["y"]).map(np.sign)
    right = (heads["to_x"] - heads["x"]).map(np.sign)
    return pd.DataFrame(
        {
            "to_x": heads["to_x"] - _HEAD * right,
            "to_y": heads["to_y"] - _HEAD * down,
            "angle": np.where(right > 0, 90.0, np.where(down > 0, 180.0, 0.0)),
        }
    )


def _error_of_value(node: Node, passed_on: Mapping[str, Record]) -> str:
    """The rel L2 of a value, which the part that reads it knows; "" where that is not known."""
    reader = passed_on.get(node.read_by)
    return "" if reader is None else size(reader.input_rel_l2)


def _box(node: Node, record: Record, own: Record | None) -> dict[str, object]:
    ratio = record.above_floor
    alone = "" if own is None else f"alone {size(own.rel_l2)}"
    return {
        "boundary": node.boundary,
        "x": node.x,
        "y": node.y,
        "left": node.x - node.width / 2,
        "right": node.x + node.width / 2,
        "top": node.y - node.height / 2,
        "bottom": node.y + node.height / 2,
        "small": node.small,
        "name": node.label,
        "marked": f"{verdict_label(record.verdict).split(' ')[0]} {node.label}",
        "look": looks_like(record.verdict),
        "verdict": verdict_label(record.verdict),
        "error": f"rel L2 {size(record.rel_l2)}",
        "more": alone or (f"{times(ratio)} floor" if math.isfinite(ratio) else ""),
        "pcc": f"PCC {pcc(record.pcc)}",
    }
