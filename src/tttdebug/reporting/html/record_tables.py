# SPDX-License-Identifier: Apache-2.0
"""Tables of records: the boundaries that fail, and the comparisons that are worst."""

from __future__ import annotations

from collections.abc import Sequence

from tttdebug.reporting.html.marks import label
from tttdebug.reporting.html.markup import Child, Markup, element, folded, section, table
from tttdebug.reporting.summary import FailingBoundary, failing_boundaries, missed_limits, worst_comparisons
from tttdebug.reporting.wording import call_of, correlation, counted, size, times
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import Run

OPEN, MOST, WORST = 15, 400, 20  # failing boundaries shown at once and at all; comparisons
_FAILING = (
    "boundary",
    "calls",
    "worst call",
    "verdict",
    "limits missed there",
    "rel_l2",
    "× floor",
    "alone, × floor",
)
_COMPARED = ("boundary", "call", "verdict", "pcc", "rel_l2", "floor", "× floor", "slope", "max |t−r|", "worst token")


def failing_section(run: Run) -> Markup | None:
    """A row a boundary, in the order of execution: the error of the port as it ran, and of the module alone."""
    failing = failing_boundaries(run)
    if not failing:
        return None
    rows = [_failing_row(one) for one in failing[:MOST]]
    said = f"{len(failing):,}, in the order of execution. The error of a module alone is its own."
    if len(failing) > MOST:
        said += f" Shown are {MOST}; the CSV report has all."
    return section(
        "Boundaries that fail",
        element("p", said, class_="quiet"),
        table(_FAILING, rows[:OPEN], numbers=3),
        folded(f"{len(rows) - OPEN:,} more", table(_FAILING, rows[OPEN:], numbers=3)) if len(rows) > OPEN else None,
        id_="failures",
    )


def worst_section(run: Run) -> Markup | None:
    """The comparisons farthest above their floors, failing or not."""
    records = worst_comparisons(run, WORST)
    if not records:
        return None
    title = f"Worst {len(records)} of {counted(len(run.records), 'comparison')}"
    return section(title, comparison_table(records), id_="worst")


def comparison_table(records: Sequence[Record]) -> Markup:
    return table(_COMPARED, [_compared_row(record) for record in records], numbers=7)


def _failing_row(one: FailingBoundary) -> list[Child]:
    worst, alone = one.worst, one.alone
    shown = worst if worst.failed or alone is None else alone
    return [
        element("b", one.boundary),
        f"{one.failed}\u00a0of\u00a0{one.calls}",
        call_of(shown),
        label(shown.verdict),
        missed_limits(shown) if shown.failed else "",
        size(worst.rel_l2),
        times(worst.above_floor),
        "–" if alone is None else times(alone.above_floor),
    ]


def _compared_row(record: Record) -> list[Child]:
    token = f"{record.worst_token} ({correlation(record.worst_token_pcc)})" if record.worst_token >= 0 else "–"
    return [
        element("b", record.boundary),
        call_of(record),
        label(record.verdict),
        correlation(record.pcc),
        size(record.rel_l2),
        size(record.floor_rel_l2),
        times(record.above_floor),
        size(record.slope),
        size(record.max_abs_diff),
        token,
    ]
