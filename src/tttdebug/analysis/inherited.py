# SPDX-License-Identifier: Apache-2.0
"""Inherited errors: the reference's modules fed with the port's inputs and caches, the caches watched between calls.

The port runs freely, as in the run that is explained. What the reference's module makes of the port's input is the
error that came in and was passed on. T tokens, C channels, K key/value heads, E head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.cache_watch import CacheWatch
from tttdebug.analysis.exchange import rows_of
from tttdebug.analysis.port_caches import with_port_cache
from tttdebug.analysis.special.read_again import ReadAgain
from tttdebug.analysis.turns import Turn, UserTurn, turns
from tttdebug.errors import LayoutError
from tttdebug.tracking.calls import known_call
from tttdebug.tracking.comparison import Comparison, compare
from tttdebug.tracking.layout import align
from tttdebug.tracking.spread import read_output
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.substitution import PortCall, Substitution

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Inherited:
    """What came into one module of the port, and what the reference's module makes of it, beside its true output."""

    boundary: str
    turn: Turn
    user: UserTurn
    comparison: Comparison
    input_rel_l2: float

    @property
    def amplification(self) -> float:
        """Error out over error in; 0 where none came in."""
        return self.comparison.rel_l2 / self.input_rel_l2 if self.input_rel_l2 > 0 else 0.0


def inherited_errors(
    subject: Subject,
    tell: Callable[[Inherited], None],
    caches: CacheWatch,
    progress: Callable[[str, float | None], None] = lambda message, fraction: None,
    again: ReadAgain | None = None,
) -> None:
    """Run every call of a run again, freely, tell what each module inherits, and watch on the way the caches, and
    whether the port gives `again` what it gave.
    """
    watching = _Watching(subject, tell, caches, again)
    with Substitution(subject.port_modules, watching) as substitution:
        for turn in turns(subject):
            progress(f"errors passed on: {turn.phase} {turn.step + 1}", None)
            watching.turn = turn
            substitution.start_call()
            turn.run()


class _Watching:
    """The intervention that changes nothing and looks at what goes in."""

    def __init__(
        self, subject: Subject, tell: Callable[[Inherited], None], caches: CacheWatch, again: ReadAgain | None
    ) -> None:
        self._subject = subject
        self._tell = tell
        self._caches = caches
        self._again = again
        self.turn: Turn | None = None

    def before(self, call: PortCall) -> PortCall:
        assert self.turn is not None
        self._caches.before(call.boundary, self.turn)
        held = call.input
        if held is not None:
            values = read_output(held)
            for part in self.turn.users.values():
                known = known_call(call.boundary, part.calls)
                if known is not None and (x := self._input(known, part, values)) is not None:
                    truth = part.calls[known]
                    call_of_port = with_port_cache(self._subject, known, truth, part.cache_before, part.row)
                    out = call_of_port.again(x.reshape(truth.input.shape).to(truth.input.dtype))
                    self._tell(
                        Inherited(
                            call.boundary,
                            self.turn,
                            part,
                            compare(_rows(truth.output_tensor), _rows(out)),
                            compare(_rows(truth.input), _rows(x)).rel_l2,
                        )
                    )
        return call

    def after(self, call: PortCall, output: Any) -> Any:
        assert self.turn is not None
        self._caches.after(call.boundary, self.turn)
        if self._again is not None:
            self._again.after(call.boundary, self.turn, output)
        return output

    def _input(self, boundary: str, part: UserTurn, values: Any) -> torch.Tensor | None:
        """The port's input in the reference's layout; None where it does not fit, which the isolated pass tells, or
        where both sides read the same ids or image.
        """
        assert self.turn is not None
        truth = part.calls[boundary].input
        if part.reads_inputs(boundary):
            return None
        try:
            aligned = align(truth, values, **rows_of(self.turn, part))
        except LayoutError:
            return None
        return aligned.port_TC if aligned.port_TC.numel() == truth.numel() else None


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1, tensor.shape[-1])
