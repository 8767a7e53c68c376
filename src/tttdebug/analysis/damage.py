# SPDX-License-Identifier: Apache-2.0
"""The reference with modules of the port in it: what these give for the reference's inputs goes on in the reference.

The port runs one module at a time, its other modules are answered; all after it is torch. T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.exchange import cannot_swap, port_with, read_whole, reference_with
from tttdebug.analysis.final_metric import FinalMetric
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.torch_reading import reader_of
from tttdebug.analysis.turns import Turn
from tttdebug.errors import LayoutError, PairingError
from tttdebug.tracking.call_numbers import first_call_of, name_of_call
from tttdebug.tracking.hooks import at_same_object, first_tensor
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.pairing import through_modules
from tttdebug.tracking.placing import like
from tttdebug.tracking.reference_calls import CallCapture, replaced
from tttdebug.tracking.substitution import Answer, PortCall

if TYPE_CHECKING:
    import torch
    from torch import nn

Tensors = dict[tuple[int, int, str], "torch.Tensor"]
"""By the call of the run, the user and the boundary."""


def damaged_metric(run: FreeRun, boundaries: frozenset[str]) -> FinalMetric:
    """The final metric of the reference with the port's modules at these boundaries.

    Modules are taken in the order of the reference's calls, each one fed with what the reference has for it when those
    before it are the port's. Raises AnalysisError where a module cannot be swapped.
    """
    first = next(iter(run.turns[0].users.values()))
    missing = boundaries - set(map(first_call_of, first.calls))
    if missing:
        raise cannot_swap(min(missing), "the reference made no such call")
    outputs: Tensors = {}
    for boundary in dict.fromkeys(name for name in map(first_call_of, first.calls) if name in boundaries):
        inputs = (
            _damaged(run, outputs, boundary)[0]
            if outputs
            else {
                (place, user, name): call.input
                for place, turn in enumerate(run.turns)
                for user, part in turn.users.items()
                for name, call in part.calls.items()
                if first_call_of(name) == boundary
            }
        )
        feeding = _Feeding(run, boundary, inputs)
        run.rerun(feeding, f"{boundary} alone")
        outputs |= feeding.outputs
    return _damaged(run, outputs)[1]


class _Feeding:
    """The intervention: one module gets given inputs, and what it gives is kept; recorded modules are answered."""

    def __init__(self, run: FreeRun, boundary: str, inputs: Tensors) -> None:
        self._run, self._boundary, self._inputs = run, boundary, inputs
        self._answers = run.untouched_by(frozenset({boundary}), afterwards=True)
        self._place, self._turn = 0, run.turns[0]
        self.outputs: Tensors = {}

    def start(self, place: int, turn: Turn) -> None:
        self._place, self._turn = place, turn

    def before(self, call: PortCall) -> PortCall | Answer:
        if call.boundary in self._answers:
            return self._run.answer(self._place, call.boundary)
        held = call.input
        if first_call_of(call.boundary) != self._boundary or held is None or self._reads_inputs(call.boundary):
            return call
        try:
            values = read_whole(held)
            for user, part in self._turn.users.items():
                x = self._inputs.get((self._place, user, call.boundary))
                if x is None:
                    raise LayoutError("the reference made no such call")
                values = port_with(values, x, self._turn, part)
        except LayoutError as error:
            raise cannot_swap(call.boundary, f"of its input, {error}") from error
        return call.with_input(like(held, values))

    def _reads_inputs(self, boundary: str) -> bool:
        return all(boundary in part.calls and part.reads_inputs(boundary) for part in self._turn.users.values())

    def after(self, call: PortCall, output: Any) -> Any:
        if first_call_of(call.boundary) != self._boundary:
            return output
        layout = self._run.layouts[self._boundary]
        try:
            values = read_whole(element_of(output, layout.port_element, "port")[0])
            for user, part in self._turn.users.items():
                if call.boundary not in part.calls:
                    raise LayoutError("the reference made no such call")
                truth = part.calls[call.boundary].output_tensor
                self.outputs[self._place, user, call.boundary] = reference_with(truth, values, self._turn, part, layout)
        except (LayoutError, PairingError) as error:
            raise cannot_swap(call.boundary, error) from error
        return output


def _damaged(run: FreeRun, outputs: Tensors, boundary: str | None = None) -> tuple[Tensors, FinalMetric]:
    """The reference with these outputs in it: the inputs that the module at `boundary` then gets, and the metric."""
    import torch

    model, modules = run.subject.reference.model, run.subject.reference_modules
    reader, elements = reader_of(run.subject, model, modules), _elements(run)
    through = through_modules(model, run.subject.paired)
    watched = {} if boundary is None else {boundary: modules[boundary]}
    caches: dict[int, Any] = {}
    inputs: Tensors = {}
    calls: list[Any] = []
    for place, turn in enumerate(run.turns):
        for user, part in turn.users.items():
            given = {at: tensor for (where, whose, at), tensor in outputs.items() if (where, whose) == (place, user)}
            cache = caches[user] if part.start else reader.going_on(None)
            with (
                torch.no_grad(),
                CallCapture(watched, elements, through=through) as capture,
                _giving(modules, given, elements),
            ):
                reading = reader.read(part.inputs, cache)
            caches[user] = reading.cache
            inputs |= {(place, user, at): call.input for at, call in capture.calls.items()}
            last = run.positions[place, user]
            calls.append(run.end.apart(part.end_TV[-last:], reading.end_TV[-last:]))
    return inputs, run.end.metric(calls)


@contextmanager
def _giving(
    modules: Mapping[str, nn.Module], outputs: Mapping[str, torch.Tensor], elements: Mapping[str, int | str]
) -> Iterator[None]:
    """Within the block these modules compute, for their caches' sake, and then give the tensors named."""
    swapped = set(map(first_call_of, outputs))
    handles = [
        module.register_forward_hook(_exchange(boundaries, outputs, elements))
        for module, boundaries in at_same_object(modules)
        if swapped & set(boundaries)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _exchange(
    boundaries: list[str], outputs: Mapping[str, torch.Tensor], elements: Mapping[str, int | str]
) -> Callable[[nn.Module, Any, Any], Any]:
    number = 0

    def exchange(module: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal number
        name = name_of_call(boundaries, number)
        number += 1
        if name not in outputs:
            return output
        own = first_tensor(element_of(output, elements.get(first_call_of(name)), "reference")[0])
        return replaced(output, own, outputs[name].to(own.dtype))

    return exchange


def _elements(run: FreeRun) -> dict[str, int | str]:
    return {
        boundary: layout.reference_element
        for boundary, layout in run.layouts.items()
        if layout.reference_element is not None
    }
