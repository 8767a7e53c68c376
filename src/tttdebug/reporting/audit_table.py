# SPDX-License-Identifier: Apache-2.0
"""The table of a weight audit: the weights that are not what they should be, then how many are what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from tttdebug.tracking.weight_audit import Audit, WeightFinding

_SHOWN_IN_RUN = 3


def audit_table(audit: Audit, *, everything: bool = False, limit: int = 40) -> RenderableType:
    """A row a fault, or with `everything` a row a weight; last the summary."""
    listed: tuple[WeightFinding, ...] = audit.findings if everything else audit.faults
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("checkpoint", "in the port", "is", "what"):
        table.add_column(column, overflow="fold")
    table.add_column("rel_l2", justify="right")
    for finding in listed[:limit] if not everything else listed:
        style = "" if finding.sound else "bold red"
        rel_l2 = "" if math.isnan(finding.rel_l2) else f"{finding.rel_l2:.2e}"
        table.add_row(finding.source, finding.path, Text(finding.status, style=style), finding.detail, rel_l2)
    more = len(listed) - limit
    parts: list[RenderableType] = [table] if listed else []
    if more > 0 and not everything:
        parts.append(Text(f"and {more} more; --all lists every weight"))
    return Group(*parts, verdict(audit))


def verdict(audit: Audit) -> Text:
    """PASS or FAIL, and how many weights are what."""
    text = Text("PASS  ", style="bold green") if audit.passed else Text("FAIL  ", style="bold red")
    return text.append(audit.summary())


def faults_text(weights: Mapping[str, Any]) -> Text | None:
    """What a run says first: that its port's weights are not the reference's; None where they are or nobody looked."""
    faults = weights.get("faults", ())
    if not faults:
        return None
    count = f"{len(faults)} weight{'s are' if len(faults) > 1 else ' is'}"
    text = Text(f"{count} not the checkpoint's", style="bold red")
    for fault in faults[:_SHOWN_IN_RUN]:
        text.append(f"\n  {fault['source']}: {fault['status']}, {fault['detail']}", style="red")
    if len(faults) > _SHOWN_IN_RUN:
        text.append(f"\n  and {len(faults) - _SHOWN_IN_RUN} more (tttdebug audit)", style="red")
    return text
