# SPDX-License-Identifier: Apache-2.0
"""Runs beside one another on the console and as JSON: what differs around them first, then what changed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tttdebug.testing.across import Across
    from tttdebug.testing.comparing import Change, Comparison, Kind
    from tttdebug.testing.standing import Standing

_STYLES: dict[Kind, str] = {"worse": "red", "vanished": "red", "better": "green", "appeared": "blue", "same": ""}


def comparison_table(comparison: Comparison, limit: int) -> RenderableType:
    """What differs around the numbers, what changed beyond the noise, the worst first, and the sum of it."""
    changed = [each for each in comparison.changes if each.kind != "same" or each.verdict_changed]
    parts: list[RenderableType] = [_environment(comparison)]
    if changed:
        parts += _lines(changed[:limit])
    if len(changed) > limit:
        parts.append(Text(f"{len(changed) - limit} more changed; --worst {len(changed)} lists all", style="dim"))
    parts.append(_sum(comparison))
    return Group(*parts)


def across_table(rows: Sequence[Across], names: Sequence[str], limit: int) -> Table:
    """A column a run with the rel_l2 of each boundary, the greatest change first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("boundary", "phase"):
        table.add_column(heading, no_wrap=True)
    for name in names:
        table.add_column(escape(Path(name).name), justify="right", overflow="fold")
    table.add_column("greatest change", justify="right")
    for row in rows[:limit]:
        phase = row.place.phase if row.place.mode == "accumulated" else f"{row.place.phase} {row.place.mode}"
        table.add_row(escape(row.place.boundary), phase, *map(_error, row.standings), f"× {math.exp(row.spread):.3g}")
    return table


def dumps(comparisons: Sequence[Comparison], rows: Sequence[Across] = ()) -> str:
    """Every comparison whole, what is the same too; with several runs also the rows of `across`. Non-finite numbers are
    strings.
    """
    content: dict[str, Any] = {"got_worse": any(each.got_worse for each in comparisons)}
    content["comparisons"] = [asdict(each) for each in comparisons]
    if rows:
        content["across"] = [asdict(row) for row in rows]
    return json.dumps(_plain(content), indent=1)


def _environment(comparison: Comparison) -> RenderableType:
    heading = Text(f"{comparison.run} beside {comparison.baseline}\n", style="bold")
    if not comparison.differences:
        return heading.append("the same versions, device, formats, weights and command\n", style="not bold dim")
    table = Table("differs", "before", "after", box=None, pad_edge=False, header_style="bold")
    for each in comparison.differences:
        sides = (each.before, each.after)
        before, after = _where_they_differ(*sides) if each.name == "command" else sides
        table.add_row(escape(each.name), escape(before) or "-", escape(after) or "-")
    return Group(heading, table, Text())


def _where_they_differ(before: str, after: str) -> tuple[str, str]:
    """The words of two commands that differ, each with the one before it."""
    words, others = before.split(" "), after.split(" ")
    blocks = [
        block for block in SequenceMatcher(None, words, others, autojunk=False).get_opcodes() if block[0] != "equal"
    ]
    return (
        " … ".join(" ".join(words[max(0, start - 1) : end]) for _, start, end, _, _ in blocks),
        " … ".join(" ".join(others[max(0, start - 1) : end]) for _, _, _, start, end in blocks),
    )


def _lines(changes: Sequence[Change]) -> Iterator[RenderableType]:
    """Two lines a change: its numbers, aligned, and why it counts, whatever the width of the window."""
    headings = ("", "boundary", "phase", "before", "after", "factor")
    rows = [_cells(each) for each in changes]
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]

    def line(row: Sequence[str], style: str = "") -> Text:
        cells = [
            cell.rjust(w) if column > 2 else cell.ljust(w)
            for column, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return Text.assemble((cells[0], style), "  ", "  ".join(cells[1:]), no_wrap=True)

    yield Text.assemble(line(headings), style="bold")
    for each, row in zip(changes, rows, strict=True):
        yield line(row, _STYLES[each.kind])
        yield Padding(Text(each.why or _verdicts(each), style="dim"), (0, 0, 0, widths[0] + 2))


def _cells(each: Change) -> tuple[str, ...]:
    place = each.place
    phase = place.phase if place.mode == "accumulated" else f"{place.phase} {place.mode}"
    factor = "" if math.isnan(each.factor) else f"× {each.factor:.3g}"
    return each.kind, place.boundary, phase, _error(each.before), _error(each.after), factor


def _verdicts(each: Change) -> str:
    return " → ".join(dict.fromkeys(side.verdict for side in (each.before, each.after) if side is not None))


def _error(standing: Standing | None) -> str:
    return "-" if standing is None else f"{standing.rel_l2:.3g}"


def _sum(comparison: Comparison) -> Text:
    counts = {kind: len(comparison.of_kind(kind)) for kind in _STYLES}
    verdicts = sum(each.verdict_changed for each in comparison.changes)
    text = Text("\nnothing is worse" if not comparison.got_worse else "\nworse", style="bold")
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return text.append(
        f": of {len(comparison.changes)} boundaries and phases {said}; {verdicts} changed their verdict",
        style="not bold",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
