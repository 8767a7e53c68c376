# SPDX-License-Identifier: Apache-2.0
"""Cutting a failing case down while it fails as before: to one op where one is at fault, then size by size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.bundles.axes import Axis, module_axes, op_axes
from tttdebug.bundles.case import Case, Seen, control_seen, seen
from tttdebug.bundles.one_op import alone, culprits, op_case
from tttdebug.emulator.errors import EmulatorError
from tttdebug.errors import LayoutError
from tttdebug.tracking.op_goldens import NoGoldenError

if TYPE_CHECKING:
    from tttdebug.bundles.capture import Captured

Progress = Callable[[str, "float | None"], None]


_DOES_NOT_FIT = (EmulatorError, RuntimeError, IndexError, LayoutError, NoGoldenError)
"""What a program raises that does not run, or means nothing, at a size that it was cut to."""


@dataclass(frozen=True)
class Step:
    """Something that was cut: `what` in words, from which size to which, and what was seen before and after."""

    what: str
    before: Seen
    after: Seen

    def __str__(self) -> str:
        return f"{self.what}: {_error(self.before)} → {_error(self.after)}"


@dataclass(frozen=True)
class Shrunk:
    """The smallest case that was found, what it gives, how it came about, and the sizes that could not be cut."""

    case: Case
    seen: Seen
    control: Seen | None
    steps: tuple[Step, ...]
    kept: tuple[str, ...]
    op: str = ""


def as_it_is(case: Case, device: Any) -> Shrunk:
    """A case with what it gives, and nothing cut."""
    return Shrunk(case, seen(case, device), control_seen(case, device), (), ())


def shrink(whole: Case, captured: Captured, device: Any, progress: Progress) -> Shrunk:
    """Cut a failing case down. A cut counts where the rest fails by about as much, and the sound port's does not."""
    steps: list[Step] = []
    kept: list[str] = []
    case, now, op = whole, seen(whole, device), ""
    progress("whether one op is at fault", None)
    found = culprits(case, device)
    if found is not None:
        named, worst = found
        one = op_case(alone(case.program, worst, device), device)
        then = seen(one, device)
        if then.fails:
            steps.append(Step(_one_op(case, named.places, worst, named.after), now, then))
            case, now, op = one, then, one.program.ops[0].name
    tried: set[str] = set()
    while (axis := next((a for a in _axes(case, captured, op, device) if a.name not in tried), None)) is not None:
        progress(f"fewer {axis.name}", None)
        tried.add(axis.name)
        smaller = _smallest(axis, now, device)
        if smaller is None:
            kept.append(f"{axis.name} {axis.size}")
            continue
        size, cut_case, then = smaller
        steps.append(Step(f"{axis.name} {axis.size} → {size}", now, then))
        case, now = cut_case, then
    return Shrunk(case, now, control_seen(case, device), tuple(steps), tuple(kept), op)


def _axes(case: Case, captured: Captured, op: str, device: Any) -> Iterator[Axis]:
    return op_axes(case, device) if op else module_axes(case, captured)


def _smallest(axis: Axis, now: Seen, device: Any) -> tuple[int, Case, Seen] | None:
    """The smallest size of an axis at which the case still fails as before, with that case."""
    for size in axis.sizes:
        try:
            case = axis.to(size)
            if case is None:
                continue
            then = seen(case, device)
            sound = control_seen(case, device)
        except _DOES_NOT_FIT:
            continue
        if then.is_like(now) and (sound is None or not sound.fails):
            return size, case, then
    return None


def _one_op(case: Case, places: Iterable[int], worst: int, after: Seen) -> str:
    names = [case.program.ops[place].name for place in places]
    golden = f"with its golden in its place the module passes ({_error(after)})"
    if len(names) > 1:
        golden = f"with the goldens of {len(names)} ops in their places the module passes ({_error(after)})"
    if len(case.program.ops) == 1:
        return f"the op against its own golden; {golden}"
    return f"{len(case.program.ops)} ops → 1, {case.program.ops[worst].name}, op {worst + 1}; {golden}"


def _error(found: Seen) -> str:
    return f"rel_l2 {found.comparison.rel_l2:.3g} of {found.limit:.3g}"
