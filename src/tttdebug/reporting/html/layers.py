# SPDX-License-Identifier: Apache-2.0
"""The records of a run by layer and kind of module: what the charts over depth draw."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tttdebug.reporting.summary import worse
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.record import Record

_LAYER = re.compile(r"^L(\d+)\.")


@dataclass(frozen=True)
class Layers:
    """The worst record of each module over the calls and users that were given.

    `cells` is by kind of module, then by layer, kinds in the order of execution; `outside` are the boundaries of no
    layer.
    """

    cells: Mapping[str, Mapping[int, Record]]
    outside: tuple[Record, ...]

    @property
    def numbers(self) -> list[int]:
        """The layers that occur."""
        return sorted({number for of_kind in self.cells.values() for number in of_kind})

    @property
    def records(self) -> list[Record]:
        return [*(record for of_kind in self.cells.values() for record in of_kind.values()), *self.outside]


def layers_of(records: Iterable[Record]) -> Layers:
    """What several calls of a module within a step gave is one place."""
    worst: dict[str, Record] = {}
    for record in records:
        boundary = first_call_of(record.boundary)
        worst[boundary] = worse(worst.get(boundary), record)
    cells: dict[str, dict[int, Record]] = {}
    outside = []
    for boundary, record in worst.items():
        found = _LAYER.match(boundary)
        if found is None:
            outside.append(record)
        else:
            cells.setdefault(kind_of(boundary), {})[int(found[1])] = record
    return Layers(cells, tuple(outside))
