# SPDX-License-Identifier: Apache-2.0
"""Several runs side by side: the error of every boundary in each, those that change most first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tttdebug.testing.comparing import entry_of
from tttdebug.testing.side import Side
from tttdebug.testing.standing import Place, Standing, change


@dataclass(frozen=True)
class Across:
    """One boundary in one phase, in every run; None where a run did not compare it. `spread` is the greatest |ln| of
    two of its errors' ratio.
    """

    place: Place
    standings: tuple[Standing | None, ...]
    spread: float


def across(sides: Sequence[Side]) -> tuple[Across, ...]:
    """A row a boundary, phase and mode that any of the sides holds, sorted by falling `spread`."""
    places = dict.fromkeys(place for side in sides for place in side.standings if "*" not in place.boundary)
    rows = [_row(place, sides) for place in places]
    return tuple(sorted(rows, key=lambda row: (-row.spread, row.place)))


def _row(place: Place, sides: Sequence[Side]) -> Across:
    entries = [(side, entry_of(place, side.standings)) for side in sides]
    standings = tuple(None if entry is None else side.standings[entry] for side, entry in entries)
    errors = [standing.rel_l2 for standing in standings if standing is not None]
    return Across(place, standings, max(abs(change(a, b)) for a in errors for b in errors))
