# SPDX-License-Identifier: Apache-2.0
"""What the audit of the port's weights found: those that are not the checkpoint's."""

from __future__ import annotations

from tttdebug.reporting.html.markup import Markup, element, section, table
from tttdebug.tracking.run import Run

MOST = 100
_COLUMNS = ("in the checkpoint", "in the port", "is", "what")


def weights_section(run: Run) -> Markup | None:
    """None where nobody looked."""
    weights = run.manifest.weights
    if not weights:
        return None
    faults = weights.get("faults", ())
    rows = [[element("b", one["source"]), one["path"], one["status"], one["detail"]] for one in faults[:MOST]]
    more = element("p", f"And {len(faults) - MOST:,} more.", class_="quiet") if len(faults) > MOST else None
    summary = element("p", weights.get("summary", ""), class_="quiet")
    return section("Weights", summary, table(_COLUMNS, rows, numbers=0) if rows else None, more, id_="weights")
