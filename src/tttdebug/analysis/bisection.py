# SPDX-License-Identifier: Apache-2.0
"""Bisection: the port begun at layer k on the reference's input of it, for the k after which the error is gone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from tttdebug.analysis.composition import Composition
from tttdebug.analysis.final_metric import FinalMetric
from tttdebug.analysis.free_run import FreeRun, Unit, layer_of
from tttdebug.analysis.sound_ports import SoundPorts, shown
from tttdebug.analysis.swapping import known, measure
from tttdebug.analysis.swaps import Swap, recorded
from tttdebug.errors import AnalysisError
from tttdebug.tracking.subject import Subject

MOST_OF_A_UNIT = 0.9
"""A module stands for its layer where it recovers this part of what the whole layer does."""

NOT_MONOTONE = 0.1
"""A curve rises where it does by more than this part of the error above the floor; less is scatter."""


@dataclass(frozen=True)
class Cut:
    """The final metric of the port when all before `begins_at` is the reference's."""

    begins_at: str
    metric: FinalMetric


@dataclass(frozen=True)
class Bisection:
    """Where the final error arises.

    `curve` has the cuts that were measured, in the order of execution, the port as it is first. `unit` is the layer, or
    the module outside of layers, where it falls below half of what exceeds the floor; `drop` is the part of this excess
    that goes there: near 1 for one fault, small where the error arises everywhere. `modules` are the swaps within it,
    best first, begun at the unit on true inputs, and `boundary` the module that does most of what the unit does; the
    unit's own boundary where no single one does. `monotone` is false where taking more of the reference made it worse:
    faults then cancel, and the place is one of several.
    """

    unit: str
    boundary: str
    drop: float
    curve: tuple[Cut, ...]
    modules: tuple[Swap, ...]
    monotone: bool
    before: FinalMetric
    floor: FinalMetric
    not_swapped: Mapping[str, str] = field(default_factory=dict)


def bisect(of: Subject | FreeRun, swapped: Iterable[str] = (), sound: SoundPorts | None = None) -> Bisection:
    """Find the layer, then the module in it, where the port's final error arises; O(log layers) runs of the port.

    Modules at `swapped` are the reference's throughout, so that a second fault is found once the first is known.
    `sound`, how sound ports end, can be shared by several bisections.
    Raises AnalysisError where the port errs no more than sound ones, and where it cannot be begun in the middle.
    """
    run = recorded(of)
    swapped = known(run, swapped)
    before, floor = measure(run, swapped), run.floor
    if not run.units:
        raise AnalysisError("there is nothing to bisect: the prefill called no module that was compared; see pairs=…")
    sound = sound or SoundPorts(run)
    if not sound.err_less_than(before):
        raise AnalysisError(
            "nothing to bisect: in the end the port errs hardly more than its number formats; it ends in "
            f"{shown(before)}, {sound}; tttdebug explain finds what errs in single modules"
        )
    curve = {0: before, len(run.units): before.without_error()}  # all is the reference's
    there, gone = 0, len(run.units)
    while gone - there > 1:
        cut = (there + gone) // 2
        curve[cut] = measure(run, swapped, cut)
        if _more_than_half(curve[cut], before, floor):
            there = cut
        else:
            gone = cut
    unit = run.units[there]
    whole = Swap("recovery", unit.boundaries, curve[there], curve[gone], floor)
    modules, not_swapped = _within(run, unit, swapped, there)
    cuts = [Cut(run.units[cut].name, curve[cut]) for cut in sorted(curve) if cut < len(run.units)]
    return Bisection(
        unit=unit.name,
        boundary=_at_fault(run, unit, whole, modules),
        drop=_part(curve[there].error - curve[gone].error, before, floor),
        curve=tuple(cuts),
        modules=modules,
        monotone=_falls(cuts, before, floor),
        before=before,
        floor=floor,
        not_swapped=not_swapped,
    )


def _more_than_half(metric: FinalMetric, before: FinalMetric, floor: FinalMetric) -> bool:
    """Whether more than half of what the error exceeded the floor by is there; all or nothing where it is infinite."""
    if math.isinf(before.error):
        return math.isinf(metric.error)
    return metric.error > (before.error + floor.error) / 2


def _part(error: float, before: FinalMetric, floor: FinalMetric) -> float:
    """A difference of errors as a part of what the error exceeded the floor by."""
    return error / (before.error - floor.error) if math.isfinite(before.error) else float(math.isinf(error))


def _within(run: FreeRun, unit: Unit, swapped: frozenset[str], cut: int) -> tuple[tuple[Swap, ...], dict[str, str]]:
    """Each module of a unit swapped, on true inputs of the unit; best first, and which could not be swapped."""
    swaps, not_swapped = list[Swap](), dict[str, str]()
    before = measure(run, swapped, cut)
    for boundary in run.layouts:
        if boundary in swapped or (boundary not in unit.boundaries and layer_of(boundary) != unit.name):
            continue
        try:
            after = measure(run, swapped | {boundary}, cut)
        except AnalysisError as error:
            not_swapped[boundary] = str(error)
        else:
            swaps.append(Swap("recovery", (boundary,), before, after, run.floor))
    return tuple(sorted(swaps, key=lambda swap: swap.after.error)), not_swapped


def _at_fault(run: FreeRun, unit: Unit, whole: Swap, modules: Iterable[Swap]) -> str:
    """The innermost module that recovers most of what the unit does; the unit's first where none does."""
    enough = [swap.boundaries[0] for swap in modules if swap.share >= MOST_OF_A_UNIT * whole.share]
    composition = Composition(run.subject.paired)
    innermost = [boundary for boundary in enough if not set(composition.parts_of(boundary)) & set(enough)]
    return next(iter(innermost), unit.boundaries[0])


def _falls(curve: list[Cut], before: FinalMetric, floor: FinalMetric) -> bool:
    """Whether the error sinks from cut to cut, but for scatter."""
    return all(
        later.metric.error <= earlier.metric.error
        or _part(later.metric.error - earlier.metric.error, before, floor) < NOT_MONOTONE
        for earlier, later in pairwise(curve)
    )
