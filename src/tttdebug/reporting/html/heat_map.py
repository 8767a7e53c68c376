# SPDX-License-Identifier: Apache-2.0
"""A map of layers by modules: how far each is from what its number formats explain."""

from __future__ import annotations

import math

from tttdebug.reporting.html.depth_chart import told
from tttdebug.reporting.html.layers import Layers
from tttdebug.reporting.html.marks import label, mark
from tttdebug.reporting.html.markup import Markup, element, joined
from tttdebug.reporting.palette import looks_like
from tttdebug.reporting.wording import size
from tttdebug.tracking.record import Record

MOST_KINDS = 40
_CELL, _LEFT, _TOP = 26, 132, 20
_FAINTEST = 0.06
_ALL_HEADED = 12  # layers
_NAME = 18  # characters of a kind that fit beside the map


def heat_map(layers: Layers, title: str) -> Markup:
    """A column a layer, a row a kind of module; the boundaries of no layer stand below, in words."""
    numbers, kinds = layers.numbers, list(layers.cells)[:MOST_KINDS]
    outside = [
        element(
            "li",
            element("b", record.boundary),
            " ",
            label(record.verdict),
            f" {size(record.rel_l2)}",
            title=told(record),
        )
        for record in layers.outside[:MOST_KINDS]
    ]
    beside = element("ul", outside, class_="outside") if outside else None
    if not numbers:
        return joined(beside)
    column = {number: place for place, number in enumerate(numbers)}
    width, height = _LEFT + _CELL * len(numbers) + 2, _TOP + _CELL * len(kinds) + 2
    headed = 1 if len(numbers) <= _ALL_HEADED else 5
    drawn = [
        *(_heading(number, place) for number, place in column.items() if place % headed == 0),
        *(_kind(kind, row) for row, kind in enumerate(kinds)),
        *(
            _cell(record, column[number], row)
            for row, kind in enumerate(kinds)
            for number, record in layers.cells[kind].items()
        ),
    ]
    svg = element(
        "svg",
        *drawn,
        viewBox=f"0 0 {width} {height}",
        style=f"width:{width}px;min-width:min({width}px,640px)",
        role="img",
        aria_label=title,
    )
    left_out = len(layers.cells) - len(kinds)
    more = (
        element("p", f"{left_out} more kinds of modules are in the CSV report.", class_="quiet") if left_out else None
    )
    return joined(element("figure", element("figcaption", title), svg, class_="map"), beside, more)


def key() -> Markup:
    """How strong the colour of an error is, in units of what the formats explain."""
    boxes = [
        element("span", element("i", style=f"opacity:{depth_of(ratio):.2f}"), f" {ratio:g}")
        for ratio in (0.1, 0.3, 1, 3, 10)
    ]
    return element("p", "Strength of the colour, rel_l2 over what the floor explains:", boxes, class_="key")


def depth_of(ratio: float) -> float:
    """How strong the colour of a cell is, for its error in units of what its floor explains."""
    share = min(max((math.log10(ratio) + 1) / 2, 0.0), 1.0) if ratio > 0 else 0.0  # from a tenth to ten times
    return _FAINTEST + (1 - _FAINTEST) * share**1.5


def _cell(record: Record, column: int, row: int) -> Markup:
    x, y = _LEFT + _CELL * column, _TOP + _CELL * row
    ratio = record.rel_l2 / record.explained_rel_l2 if record.explained_rel_l2 > 0 else math.nan
    strength = depth_of(ratio) if math.isfinite(ratio) else 1.0 if record.failed else _FAINTEST
    looks = looks_like(record.verdict)
    ground = element(
        "rect", x=x, y=y, width=_CELL - 1, height=_CELL - 1, fill_opacity=f"{strength:.2f}", class_=f"cell {looks}"
    )
    centre = (_CELL - 1) / 2
    sign = mark(record.verdict, x + centre, y + centre, 5) if looks != "ok" else None
    return element("g", element("title", told(record)), ground, sign)


def _heading(number: int, place: int) -> Markup:
    return element("text", f"L{number:02d}", x=_LEFT + _CELL * place + _CELL / 2, y=_TOP - 7, text_anchor="middle")


def _kind(kind: str, row: int) -> Markup:
    shown = kind if len(kind) <= _NAME else f"{kind[: _NAME - 1]}…"
    at = _TOP + _CELL * row + _CELL / 2
    return element("text", element("title", kind), shown, x=_LEFT - 8, y=at, dy="0.32em", text_anchor="end")
