# SPDX-License-Identifier: Apache-2.0
"""The port with modules of the reference in it, run from the first of them on, or from a layer on with true inputs.

T tokens, C channels.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.exchange import cannot_swap, output_with, read_whole, reference_with
from tttdebug.analysis.final_metric import FinalMetric
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.turns import Turn, UserTurn
from tttdebug.errors import AnalysisError, LayoutError
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.hooks import first_tensor
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.reference_calls import TorchCall, called, with_input
from tttdebug.tracking.substitution import Answer, PortCall
from tttdebug.tracking.torch_cache import fork, is_cache

if TYPE_CHECKING:
    import torch


def measure(run: FreeRun, swapped: Iterable[str] = (), cut: int = 0) -> FinalMetric:
    """The final metric of the port with the reference's modules at the boundaries `swapped`.

    With `cut` the unit of that number and those after it run on what the reference's units before it gave. What was
    measured before is not run again. Raises AnalysisError where a module cannot be swapped.
    """
    chosen = known(run, swapped)
    if not chosen and not cut:
        return run.metric
    key = (chosen, cut)
    if key not in run.measured:
        names = ", ".join(sorted(chosen))
        begun = f"the reference up to {run.units[cut].name}" if cut else ""
        message = " and ".join(filter(None, (begun, f"{names} from the reference" if names else "")))
        run.measured[key] = run.rerun(_Swapping(run, chosen, cut), message)
    return run.measured[key]


def known(run: FreeRun, boundaries: Iterable[str]) -> frozenset[str]:
    """The boundaries as a set. Raises AnalysisError for one where the port has no module, or calls none."""
    chosen = frozenset(boundaries)
    for boundary in sorted(chosen):
        if boundary not in run.layouts:
            nearest = ", ".join(difflib.get_close_matches(boundary, run.layouts, n=3, cutoff=0.4))
            raise AnalysisError(
                f"no modules were compared at {boundary!r}, so none can be swapped; nearest: {nearest or 'none'}"
            )
        if not run.called(boundary):
            raise cannot_swap(boundary, "the port never called its module")
    return chosen


class _Swapping:
    """The intervention: some modules are answered, some give what the reference's would in their place.

    A swapped module of the port is still called, for what surrounds the values in its output: padding, other users'
    rows. The reference's gets the port's input, and keeps the keys and values that it made of it for the next call.
    """

    def __init__(self, run: FreeRun, swapped: frozenset[str], cut: int) -> None:
        self._run, self._swapped = run, swapped
        self._of_reference = run.before_unit(cut)
        self._of_port = frozenset() if cut else run.untouched_by(swapped)
        self._caches: dict[tuple[str, int], Any] = {}
        self._given: dict[str, dict[int, torch.Tensor]] = {}
        self._place, self._turn = 0, run.turns[0]

    def start(self, place: int, turn: Turn) -> None:
        self._place, self._turn = place, turn
        self._given.clear()

    def before(self, call: PortCall) -> PortCall | Answer:
        boundary = call.boundary
        if boundary in self._of_port:
            return self._run.answer(self._place, boundary)
        if first_call_of(boundary) in self._of_reference:
            truth = {user: self._call(boundary, part).output_tensor for user, part in self._turn.users.items()}
            return Answer(self._with(self._run.answer(self._place, boundary).output, boundary, truth))
        if first_call_of(boundary) in self._swapped:
            self._given[boundary] = {
                user: self._reference_on(call, user, part) for user, part in self._turn.users.items()
            }
        return call

    def after(self, call: PortCall, output: Any) -> Any:
        given = self._given.pop(call.boundary, None)
        return output if given is None else self._with(output, call.boundary, given)

    def _with(self, output: Any, boundary: str, references: dict[int, torch.Tensor]) -> Any:
        return output_with(output, boundary, self._turn, references, self._run.layouts[first_call_of(boundary)])

    def _call(self, boundary: str, part: UserTurn) -> TorchCall:
        if boundary not in part.calls:
            raise cannot_swap(boundary, "the reference made no such call")
        return part.calls[boundary]

    def _reference_on(self, call: PortCall, user: int, part: UserTurn) -> torch.Tensor:
        """What the reference's module makes of the port's input, [1, T, C]."""
        import torch

        truth = self._call(call.boundary, part)
        x = None
        if call.input is not None and not part.reads_inputs(call.boundary):
            try:
                x = reference_with(truth.input, read_whole(call.input), self._turn, part)
            except LayoutError as error:
                raise cannot_swap(call.boundary, f"of its input, {error}") from error
        kwargs = dict(truth.kwargs)
        for name, value in truth.kwargs.items():
            if is_cache(value):
                kept = self._caches.get((call.boundary, user)) if part.start else None
                kwargs[name] = self._caches[call.boundary, user] = fork(value if kept is None else kept)
        args, kwargs = with_input(truth.args, kwargs, x)
        with torch.no_grad():
            output = called(truth.module, truth.through, args, kwargs)
        return first_tensor(element_of(output, truth.element, "reference")[0])
