# SPDX-License-Identifier: Apache-2.0
"""The tables of swaps and of a bisection: how much of the final error is gone, beside what number formats cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tttdebug.analysis.bisection import Bisection
    from tttdebug.analysis.final_metric import FinalMetric
    from tttdebug.analysis.swaps import Swap

_TELLING = 0.5
_CLEARLY = 1.5  # of a smaller excess over the floor the parts are scatter
_WHAT = {"recovery": "from the reference", "damage": "into the reference"}


def swap_table(swaps: Iterable[Swap], not_swapped: Mapping[str, str] | None = None) -> RenderableType:
    """A row a swap with the final metric after it, below the port as it is and its floor; then what was not swapped."""
    swaps = tuple(swaps)
    table = _table(swaps[0].before if swaps else None, "swapped", "")
    if swaps:
        table.add_row("the port as it is", "", *_numbers(swaps[0].before), "", "")
        table.add_row("its number formats alone", "", *_numbers(swaps[0].floor), "", "")
    for swap in swaps:
        above = swap.share_above_floor if swap.before.error > _CLEARLY * swap.floor.error else math.nan
        table.add_row(
            ", ".join(swap.boundaries),
            _WHAT[swap.kind],
            *_numbers(swap.after),
            _share(swap.share),
            _share(above),
            style="bold" if above >= _TELLING else "",
        )
    return Group(table, *_left_out(not_swapped or {}))


def bisection_table(found: Bisection) -> RenderableType:
    """The curve of the cuts, the modules of the layer where the error arises, and a sentence that says which."""
    curve = _table(found.before, "the reference's before", shares=False)
    for cut in found.curve:
        curve.add_row(cut.begins_at, *_numbers(cut.metric))
    curve.add_row("its number formats alone", *_numbers(found.floor))
    parts: list[RenderableType] = [curve, Text()]
    if found.modules:
        parts += [Text(f"{found.unit} on true inputs", style="bold"), swap_table(found.modules, found.not_swapped)]
    parts.append(_conclusion(found))
    return Group(*parts)


def _conclusion(found: Bisection) -> Text:
    text = Text(found.boundary, style="bold").append(
        f": {_share(found.drop)} of the final error above the floor arises in {found.unit}", style="not bold"
    )
    if found.drop < _TELLING:
        text.append("; the rest elsewhere, before or after it", style="not bold")
    if not found.monotone:
        text.append(
            "; more of the reference made it worse in between, so faults cancel and this is one of several places",
            style="yellow",
        )
    return text


def _table(metric: FinalMetric | None, *first: str, shares: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in first:
        table.add_column(column, overflow="fold")
    for column in (*(metric.columns if metric else ()), *(("share", "above floor") if shares else ())):
        table.add_column(column, justify="right")
    return table


def _numbers(metric: FinalMetric) -> tuple[str, ...]:
    return tuple(metric.columns.values())


def _share(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.1%}"


def _left_out(not_swapped: Mapping[str, str]) -> list[RenderableType]:
    return [Text(f"not swapped: {reason}", style="yellow") for reason in not_swapped.values()]
