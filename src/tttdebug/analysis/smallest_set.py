# SPDX-License-Identifier: Apache-2.0
"""The smallest set of modules whose swap recovers most of the final error: found greedily, then verified."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tttdebug.analysis.bisection import bisect
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.sound_ports import SoundPorts
from tttdebug.analysis.swaps import Swap, rank, recorded, recover
from tttdebug.errors import AnalysisError
from tttdebug.tracking.subject import Subject

MOST_MODULES = 8


def smallest_set(
    of: Subject | FreeRun,
    recovers: float = 0.9,
    candidates: Iterable[str] | None = None,
    most: int = MOST_MODULES,
) -> tuple[Swap, ...]:
    """Modules added one by one until their swap recovers `recovers` of the error above the floor.

    The last swap has the whole set, each one before it one module less; the last one's `share_above_floor` says whether
    it was reached within `most` modules. Without `candidates` each module is the one that bisection finds with those
    before it swapped: a logarithm of the layers in runs, times the modules. With them it is the one that recovers most
    alone. A module that the others make needless is left out in the end. Empty where the port errs no more than sound
    ones.

    Raises AnalysisError where the port cannot be begun in the middle, and for candidates none of which can be swapped.
    """
    run = recorded(of)
    sound = SoundPorts(run)
    if not sound.err_less_than(run.metric):
        return ()
    following = _by_bisection(run, sound) if candidates is None else _from_list(run, candidates)
    chosen: list[str] = []
    while len(chosen) < most and not _enough(run, chosen, recovers):
        boundary = following(chosen)
        if boundary is None:
            break
        chosen.append(boundary)
    if _enough(run, chosen, recovers):
        for boundary in tuple(chosen):
            fewer = [other for other in chosen if other != boundary]
            if fewer and _enough(run, fewer, recovers):
                chosen = fewer
    return tuple(recover(run, chosen[:count]) for count in range(1, len(chosen) + 1))


def _enough(run: FreeRun, chosen: list[str], recovers: float) -> bool:
    return bool(chosen) and recover(run, chosen).share_above_floor >= recovers


def _by_bisection(run: FreeRun, sound: SoundPorts) -> Callable[[list[str]], str | None]:
    """The module that bisection finds when those chosen are swapped; None where it finds none besides."""

    def following(chosen: list[str]) -> str | None:
        if not sound.err_less_than(recover(run, chosen).after):
            return None
        boundary = bisect(run, chosen, sound).boundary
        return None if boundary in chosen else boundary

    return following


def _from_list(run: FreeRun, candidates: Iterable[str]) -> Callable[[list[str]], str | None]:
    """The candidates in the order of what they recover alone. Raises AnalysisError where none can be swapped."""
    ranking = rank(run, candidates)
    if not ranking.swaps:
        raise AnalysisError("; ".join(ranking.not_swapped.values()) or "no candidates to swap: name some boundaries")
    order = [swap.boundaries[0] for swap in ranking]
    return lambda chosen: next((boundary for boundary in order if boundary not in chosen), None)
