# SPDX-License-Identifier: Apache-2.0
"""What was expected, compared and left out with the reasons, and what the run noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tttdebug.reporting.html.marks import label
from tttdebug.reporting.html.markup import Child, Markup, element, section, table
from tttdebug.reporting.palette import VERDICTS, looks_like
from tttdebug.tracking.run import Run

MOST = 100  # rows of reasons


def ledger_section(run: Run) -> Markup:
    """Every reason with how often it kept something from being compared, and a boundary that it did so to."""
    manifest, compared = run.manifest, len(run.records)
    missing = manifest.expected - compared - len(manifest.skipped)
    counts = {
        "expected": manifest.expected,
        "compared": compared,
        "skipped": len(manifest.skipped),
        "missing without a reason": max(missing, 0),
        "records of modules alone and of what they inherit": len(run.experiments),
    }
    always = ("expected", "compared", "skipped")
    facts = [
        element("div", element("b", f"{count:,}"), name) for name, count in counts.items() if count or name in always
    ]
    return section(
        "What was compared",
        element("div", facts, class_="counts"),
        element("p", _tally(run), class_="legend"),
        _skipped(run),
        _unpaired(run),
        [element("p", f"golden refused: {reason}", class_="note") for reason in manifest.refused_goldens],
        [element("p", f"note: {note}", class_="note") for note in manifest.notes],
        id_="ledger",
    )


def _tally(run: Run) -> list[Child]:
    counts = Counter(looks_like(record.verdict) for record in run.records)
    return [element("span", label(verdict), f" {counts[verdict]:,}") for verdict in VERDICTS if counts[verdict]]


def _skipped(run: Run) -> Markup | None:
    skipped = run.manifest.skipped
    if not skipped:
        return None
    first = {entry.reason: entry for entry in reversed(skipped)}
    reasons = Counter(entry.reason for entry in skipped).most_common()
    rows = [(reason, f"{first[reason].boundary} in {first[reason].phase}", f"{count:,}") for reason, count in reasons]
    return _limited(("why it was skipped", "first", "times"), rows, numbers=1)


def _unpaired(run: Run) -> Markup | None:
    rows = [(entry.side, entry.path, entry.reason) for entry in run.manifest.unpaired]
    return _limited(("unpaired in the", "module", "why"), rows, numbers=0) if rows else None


def _limited(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: int) -> Markup:
    more = element("p", f"And {len(rows) - MOST:,} more.", class_="quiet") if len(rows) > MOST else None
    return element("div", table(columns, rows[:MOST], numbers=numbers), more)
