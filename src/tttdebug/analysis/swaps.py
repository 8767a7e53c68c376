# SPDX-License-Identifier: Apache-2.0
"""Swaps: what the final error becomes with modules of the reference in the port (recovery), or the other way round.

Every function takes the Subject of a run, or a FreeRun of it that several of them can share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, overload

from tttdebug.analysis.damage import damaged_metric
from tttdebug.analysis.final_metric import FinalMetric
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.swapping import known, measure
from tttdebug.errors import AnalysisError
from tttdebug.tracking.subject import Subject


@dataclass(frozen=True)
class Swap:
    """Modules that were exchanged, and the final metric that came of it.

    `before` is the port as it is. `after` is, of a recovery, the port with the reference's modules; of a damage, the
    reference with the port's. `floor` is the reference in the port's number formats.
    """

    kind: Literal["recovery", "damage"]
    boundaries: tuple[str, ...]
    before: FinalMetric
    after: FinalMetric
    floor: FinalMetric

    @property
    def share(self) -> float:
        """The part of the final error that the modules account for: gone in a recovery, there in a damage.

        nan where there is no error.
        """
        return self._share(0.0)

    @property
    def share_above_floor(self) -> float:
        """The same of what the error exceeds the floor by, below which no mended port comes; nan where it does not.

        It is more than 1 where the error sinks below the floor, for the reference's modules have no number formats.
        """
        return self._share(self.floor.error)

    def _share(self, floor: float) -> float:
        before, after = self.before.error, self.after.error
        if self.kind == "damage":
            before, after = before - floor, after - floor
            if math.isinf(before):
                return 1.0 if math.isinf(after) else 0.0
            return after / before if before > 0 else math.nan
        if math.isinf(before):
            return 0.0 if math.isinf(after) else 1.0
        return (before - after) / (before - floor) if before > floor else math.nan


@dataclass(frozen=True)
class Ranking(Sequence[Swap]):
    """Swaps, the one first that accounts for most; and which modules could not be swapped, with the reason."""

    swaps: tuple[Swap, ...]
    not_swapped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.swaps)

    @overload
    def __getitem__(self, place: int) -> Swap: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Swap, ...]: ...

    def __getitem__(self, place: int | slice) -> Swap | tuple[Swap, ...]:
        return self.swaps[place]

    def __iter__(self) -> Iterator[Swap]:
        return iter(self.swaps)


def recorded(of: Subject | FreeRun) -> FreeRun:
    """The free run of a subject; one that was made before as it is."""
    return of if isinstance(of, FreeRun) else FreeRun(of)


def recover(of: Subject | FreeRun, boundaries: Iterable[str]) -> Swap:
    """The port with the reference's modules at `boundaries`, each on the port's own input, run from there on.

    Raises AnalysisError, naming the boundary, for a module that cannot be swapped, and for a boundary without one.
    """
    run, boundaries = recorded(of), tuple(boundaries)
    return Swap("recovery", boundaries, run.metric, measure(run, boundaries), run.floor)


def damage(of: Subject | FreeRun, boundaries: Iterable[str]) -> Swap:
    """The reference with the port's modules at `boundaries`, each on the input that the reference then has for it.

    Raises AnalysisError, naming the boundary, for a module that cannot be swapped, and for a boundary without one.
    """
    run, boundaries = recorded(of), tuple(boundaries)
    return Swap("damage", boundaries, run.metric, damaged_metric(run, known(run, boundaries)), run.floor)


def rank(
    of: Subject | FreeRun,
    candidates: Iterable[str],
    swap: Callable[[FreeRun, Iterable[str]], Swap] = recover,
) -> Ranking:
    """Each candidate swapped alone, by `recover` or `damage`; the one that accounts for most of the error first."""
    run = recorded(of)
    swaps: list[Swap] = []
    not_swapped: dict[str, str] = {}
    for boundary in dict.fromkeys(candidates):
        try:
            swaps.append(swap(run, [boundary]))
        except AnalysisError as error:
            not_swapped[boundary] = str(error)
    return Ranking(tuple(sorted(swaps, key=_error_left)), not_swapped)


def shares(subject: Subject, boundaries: Iterable[str], *, decode_steps: int = 0) -> dict[str, float]:
    """For each boundary the part of the final error that is gone when its module is the reference's.

    It is measured over the first prompt, its prefill and the first `decode_steps`. nan where the module cannot be
    swapped, and where the port errs there no more than its number formats do.
    """
    run = FreeRun(replace(subject, prompts=subject.prompts[:1], decode_steps=decode_steps))
    boundaries, measured = tuple(boundaries), {}
    if run.metric.error > run.floor.error:
        measured = {swap.boundaries[0]: swap.share for swap in rank(run, boundaries)}
    return {boundary: measured.get(boundary, math.nan) for boundary in boundaries}


def _error_left(swap: Swap) -> float:
    """What of the error the modules do not account for."""
    return swap.after.error if swap.kind == "recovery" else -swap.after.error
