# SPDX-License-Identifier: Apache-2.0
"""A pairing plan on the console: pairs and how they were found, what is left on either side, a line for all layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from tttdebug.tracking.pairing_plan import PairingPlan, Unpaired
from tttdebug.tracking.plan_file import layers_as_text, pair_groups, unpaired_groups


def pairing_table(plan: PairingPlan) -> RenderableType:
    """The whole plan."""
    parts: list[RenderableType] = [_pairs(plan)]
    for title, unpaired in (("port", plan.unpaired_port), ("reference", plan.unpaired_reference)):
        if unpaired:
            parts.append(_unpaired(f"not compared, of the {title}", unpaired))
    parts += [f"note: {escape(note)}" for note in plan.notes]
    counted = Counter(planned.found_by for planned in plan.planned)
    found = ", ".join(f"{number} by {rule}" for rule, number in counted.items())
    left = f"{len(plan.unpaired_port)} modules of the port and {len(plan.unpaired_reference)} of the reference"
    parts.append(f"{len(plan.planned)} pairs: {found}; {left} are not compared by themselves")
    return Group(*parts)


def _pairs(plan: PairingPlan) -> Table:
    table = Table(title="pairs", title_justify="left")
    for heading in ("boundary", "layers", "port", "reference", "found by"):
        table.add_column(heading, overflow="fold")
    for group in pair_groups(plan.planned):
        planned, pair = group.template, group.template.pair
        found = f"{planned.found_by} ({planned.because})" if planned.because else planned.found_by
        table.add_row(
            *map(escape, (pair.boundary, layers_as_text(group.layers), pair.port, _whole(pair.reference), found))
        )
    return table


def _unpaired(title: str, unpaired: Iterable[Unpaired]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("module", "layers", "class", "why"):
        table.add_column(heading, overflow="fold")
    for group in unpaired_groups(unpaired):
        left = group.template
        table.add_row(*map(escape, (_whole(left.path), layers_as_text(group.layers), left.class_name, left.reason)))
    return table


def _whole(path: str) -> str:
    return path or "(the whole model)"
