# SPDX-License-Identifier: Apache-2.0
"""The table of model families."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from tttdebug.families import Family


def family_table(families: Iterable[Family]) -> Table:
    """A row a family: its name, the architectures that a config may name, and what a user brings."""
    table = Table("family", "architectures", "needs", box=None, pad_edge=False, header_style="bold")
    for family in families:
        table.add_row(family.name, "\n".join(family.architectures), family.needs)
    return table
