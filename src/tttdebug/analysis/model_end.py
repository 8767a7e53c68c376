# SPDX-License-Identifier: Apache-2.0
"""Where a port ends: the logits that it returns, or an encoder's last output; and how two ends are compared.

T positions, V channels of the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tttdebug.analysis.final_metric import FinalMetric, Predictions, final_metric, predictions
from tttdebug.analysis.output_metric import OutputErrors, output_errors, output_metric
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.pairing import AS_IT_IS, PairLayout
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.substitution import Answer, Intervention, PortCall

if TYPE_CHECKING:
    import torch

Apart = Predictions | OutputErrors
"""How far the ends of one call of one user are apart."""


class ModelEnd(Protocol):
    """The end of a port: `what` names it, `layout` says how it lies, `remedy` what to do where it cannot be read."""

    what: str
    remedy: str
    layout: PairLayout

    def listening(self, intervention: Intervention) -> Intervention:
        """The intervention, overheard where that is how the end becomes known."""
        ...

    def of_call(self, returned: Any) -> Any:
        """The end of the call that was just made, which returned this."""
        ...

    def apart(self, reference_TV: torch.Tensor, port_TV: torch.Tensor) -> Apart:
        """How far two ends are apart."""
        ...

    def metric(self, calls: Sequence[Any]) -> FinalMetric:
        """The final metric over these calls."""
        ...


class Logits:
    """The logits that a language model returns."""

    what, remedy, layout = "logits", "return them from prefill and decode", AS_IT_IS

    def listening(self, intervention: Intervention) -> Intervention:
        return intervention

    def of_call(self, returned: Any) -> Any:
        return returned

    def apart(self, reference_TV: torch.Tensor, port_TV: torch.Tensor) -> Predictions:
        return predictions(reference_TV, port_TV)

    def metric(self, calls: Sequence[Predictions]) -> FinalMetric:
        return final_metric(calls)


class LastOutput:
    """What the module at one boundary gives its caller: an encoder may return something else."""

    remedy = "pair as the last module one whose output the reference has too"

    def __init__(self, boundary: str, layout: PairLayout) -> None:
        self.what, self.layout = f"output at {boundary}", layout
        self._boundary = boundary
        self._heard: Any = None

    def listening(self, intervention: Intervention) -> Intervention:
        return _Overhearing(intervention, self._hear)

    def of_call(self, returned: Any) -> Any:
        heard, self._heard = self._heard, None
        return heard

    def apart(self, reference_TV: torch.Tensor, port_TV: torch.Tensor) -> OutputErrors:
        return output_errors(reference_TV, port_TV)

    def metric(self, calls: Sequence[OutputErrors]) -> FinalMetric:
        return output_metric(calls)

    def _hear(self, boundary: str, output: Any) -> Any:
        if first_call_of(boundary) == self._boundary:
            self._heard = output
        return output


class _Overhearing:
    """An intervention whose outputs are told of, by boundary."""

    def __init__(self, intervention: Intervention, hear: Any) -> None:
        self._intervention, self._hear = intervention, hear

    def before(self, call: PortCall) -> PortCall | Answer:
        decided = self._intervention.before(call)
        return Answer(self._hear(call.boundary, decided.output)) if isinstance(decided, Answer) else decided

    def after(self, call: PortCall, output: Any) -> Any:
        return self._hear(call.boundary, self._intervention.after(call, output))


def end_of(subject: Subject) -> ModelEnd:
    """The end of the port of a comparison."""
    if not subject.encodes:
        return Logits()
    return LastOutput(subject.last_boundary, subject.paired[-1].pair.layout)
