# SPDX-License-Identifier: Apache-2.0
"""What got worse since a baseline, as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tttdebug.testing.comparing import Change


def worse_text(worse: Sequence[Change], baseline: Path) -> str:
    """A line a boundary: its error before and after, and why that counts as worse."""
    head = f"{len(worse)} boundaries are worse than {baseline} allows, or compared no longer"
    tail = f"to accept it: tttdebug baseline RUN --update {baseline} --loosen --why …"
    return "\n  ".join((head, *map(_line, worse), tail))


def _line(change: Change) -> str:
    before, after = (
        "not compared" if standing is None else f"rel_l2 {standing.rel_l2:.4g}"
        for standing in (change.before, change.after)
    )
    return f"{change.place.boundary} in {change.place.phase}: {before} → {after}; {change.why or change.kind}"
