# SPDX-License-Identifier: Apache-2.0
"""Error over depth: a panel a kind of module with what its formats explain, and its errors accumulated and alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tttdebug.reporting.html.layers import Layers
from tttdebug.reporting.html.marks import mark
from tttdebug.reporting.html.markup import Markup, element, joined
from tttdebug.reporting.html.scale import LogScale
from tttdebug.reporting.wording import call_of, correlation, counted, size, times
from tttdebug.tracking.record import Record

MOST_PANELS = 12
_WIDTH, _HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 12, 26  # margins of the plot
_TICKS = 6  # labels along the depth


@dataclass(frozen=True)
class Curve:
    """One panel's records, by their place along the depth, and those of the modules alone."""

    title: str
    records: Mapping[int, Record]
    alone: Mapping[int, Record]


def depth_charts(accumulated: Layers, alone: Layers) -> Markup:
    """rel_l2 over the layers, panels with one logarithmic scale; of modules that stand in no layers in their order."""
    curves = _curves(accumulated, alone)
    shown = _most_telling(curves)
    values = [
        value
        for curve in shown
        for record in (*curve.records.values(), *curve.alone.values())
        for value in (record.rel_l2, record.floor_rel_l2, record.explained_rel_l2)
    ]
    scale = LogScale.over(values)
    left_out = counted(len(curves) - len(shown), "kind") if len(shown) < len(curves) else ""
    more = element("p", f"Not drawn: {left_out} of modules with lesser errors.", class_="quiet") if left_out else None
    return joined(element("div", [_panel(curve, scale) for curve in shown], class_="panels"), more)


def _curves(accumulated: Layers, alone: Layers) -> list[Curve]:
    if len(accumulated.numbers) > 1:
        return [Curve(kind, cells, alone.cells.get(kind, {})) for kind, cells in accumulated.cells.items()]
    own = {record.boundary: record for record in alone.records}
    records = dict(enumerate(accumulated.records))
    at = {place: own[record.boundary] for place, record in records.items() if record.boundary in own}
    return [Curve("in the order of execution", records, at)] if records else []


def _most_telling(curves: Sequence[Curve]) -> list[Curve]:
    """As many as fit, in their order: of more, those with the greatest errors above their floors."""

    def greatest(curve: Curve) -> tuple[bool, float]:
        failed = any(record.failed for record in (*curve.records.values(), *curve.alone.values()))
        return failed, max(
            (record.above_floor for record in curve.records.values() if record.above_floor > 0), default=0
        )

    chosen = sorted(curves, key=greatest, reverse=True)[:MOST_PANELS]
    return [curve for curve in curves if curve in chosen]


def _panel(curve: Curve, scale: LogScale) -> Markup:
    places = sorted({*curve.records, *curve.alone})
    first, last = places[0], places[-1]

    def x(place: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((place - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - scale.share(value))

    def line(records: Mapping[int, Record]) -> str:
        return " ".join(f"{x(place):.1f},{y(record.rel_l2):.1f}" for place, record in sorted(records.items()))

    floors = [(place, record) for place, record in sorted(curve.records.items()) if math.isfinite(record.floor_rel_l2)]
    floor = [f"{x(place):.1f},{y(record.floor_rel_l2):.1f}" for place, record in floors]
    explained = [f"{x(place):.1f},{y(record.explained_rel_l2):.1f}" for place, record in floors]
    drawn = [
        *_axes(scale, y),
        *(_depth_label(place, x(place)) for place in _ticks(places)),
        element("polygon", points=" ".join([*explained, *reversed(floor)]), class_="band"),
        element("polyline", points=" ".join(floor), class_="floor-line"),
        element("polyline", points=line(curve.alone), class_="alone-line") if curve.alone else None,
        element("polyline", points=line(curve.records), class_="line"),
        [_ring(record, x(place), y(record.rel_l2)) for place, record in curve.alone.items()],
        [_point(record, x(place), y(record.rel_l2)) for place, record in curve.records.items()],
    ]
    svg = element(
        "svg", *drawn, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=f"rel_l2 of {curve.title} over depth"
    )
    return element("figure", element("figcaption", curve.title), svg)


def _axes(scale: LogScale, y: Callable[[float], float]) -> Iterator[Markup]:
    for value, text in scale.ticks:
        at = f"{y(value):.1f}"
        yield element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="grid")
        yield element("text", text, x=_LEFT - 6, y=at, dy="0.32em", text_anchor="end")


def _ticks(places: Sequence[int]) -> list[int]:
    """Round places, about six."""
    span = places[-1] - places[0]
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if span / step <= _TICKS)
    return [place for place in range(places[0], places[-1] + 1) if place % step == 0]


def _depth_label(place: int, x: float) -> Markup:
    return element("text", place, x=f"{x:.1f}", y=_HEIGHT - 8, text_anchor="middle")


def _point(record: Record, x: float, y: float) -> Markup:
    radius = 4.5 if record.failed else 2.6
    return element("g", element("title", told(record)), mark(record.verdict, x, y, radius))


def _ring(record: Record, x: float, y: float) -> Markup:
    title = element("title", f"alone: {told(record)}")
    return element("circle", title, cx=f"{x:.1f}", cy=f"{y:.1f}", r="3", class_="ring")


def told(record: Record) -> str:
    """One record in a line, for a tooltip."""
    return (
        f"{record.boundary}, {call_of(record)}: {record.verdict}, rel_l2 {size(record.rel_l2)}, floor "
        f"{size(record.floor_rel_l2)} ({times(record.above_floor)}), pcc {correlation(record.pcc)}"
    )
