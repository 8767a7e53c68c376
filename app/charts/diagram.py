# SPDX-License-Identifier: Apache-2.0
"""A layer as a diagram: its modules as boxes in the order of execution, coloured by verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from charts.scales import PADDING, PICK, VERDICT_COLOUR
from tttdebug.reporting.palette import GREY, looks_like
from tttdebug.reporting.wording import size, times
from tttdebug.tracking.record import Record
from wording import pcc, verdict_label

_PER_ROW = 5
_ROW_HEIGHT = 112
_BOX_WIDTH, _BOX_HEIGHT = 0.84, 0.9  # of a cell
_LINE_OFFSETS = {"name": -32, "verdict": -10, "error": 12, "ratio": 30}  # pixels from a box's centre


def layer_diagram(records: Sequence[Record], ink: str) -> alt.LayerChart:
    """Boxes that hold name, verdict, rel L2 and its multiple of the floor. A click selects a boundary under `PICK`.

    `ink` is the colour of plain text.
    """
    boxes = pd.DataFrame([_box(index, record) for index, record in enumerate(records)])
    boxes.loc[boxes.index[:-1], "arrow"] = True
    rows = math.ceil(len(boxes) / _PER_ROW)
    x_scale = alt.Scale(domain=[-0.5, _PER_ROW - 0.5], nice=False)
    y_scale = alt.Scale(domain=[rows - 0.5, -0.5], nice=False)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=None)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=y_scale, axis=None)

    colour = alt.Color("look:N", scale=VERDICT_COLOUR, legend=None)
    pick = alt.selection_point(name=PICK, fields=["boundary"], on="click", empty=False)
    chart = alt.Chart(boxes)
    frames = (
        chart.mark_rect(cornerRadius=6, strokeWidth=2, fillOpacity=0.1, cursor="pointer")
        .encode(
            x=x("left"),
            x2="right",
            y=y("top"),
            y2="bottom",
            stroke=alt.Stroke("look:N", scale=VERDICT_COLOUR, legend=None),
            fill=alt.Fill("look:N", scale=VERDICT_COLOUR, legend=None),
            tooltip=["boundary:N", "verdict:N", "error:N", "ratio:N", "pcc:N"],
        )
        .add_params(pick)
    )
    texts = [
        chart.mark_text(
            dy=offset,
            fontSize=14 if line == "name" else 12,
            fontWeight="bold" if line in ("name", "verdict") else "normal",
            color=ink,
            tooltip=None,
        ).encode(x=x("column"), y=y("row"), text=f"{line}:N", **({"color": colour} if line == "verdict" else {}))
        for line, offset in _LINE_OFFSETS.items()
    ]
    arrows = (
        chart.transform_filter("datum.arrow")
        .mark_text(text="→", fontSize=18, color=GREY, tooltip=None)
        .encode(x=x("after"), y=y("row"))
    )
    return alt.layer(frames, arrows, *texts).properties(height=rows * _ROW_HEIGHT, padding=PADDING)


def _box(index: int, record: Record) -> dict[str, object]:
    row, column = divmod(index, _PER_ROW)
    ratio = record.above_floor
    return {
        "boundary": record.boundary,
        "row": row,
        "column": column,
        "left": column - _BOX_WIDTH / 2,
        "right": column + _BOX_WIDTH / 2,
        "top": row - _BOX_HEIGHT / 2,
        "bottom": row + _BOX_HEIGHT / 2,
        "after": column + 0.5,
        "arrow": False,
        "name": record.boundary.rpartition(".")[2],
        "look": looks_like(record.verdict),
        "verdict": verdict_label(record.verdict),
        "error": f"rel L2 {size(record.rel_l2)}",
        "ratio": f"{times(ratio)} floor" if math.isfinite(ratio) else "",
        "pcc": f"PCC {pcc(record.pcc)}",
    }
