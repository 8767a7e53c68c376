# SPDX-License-Identifier: Apache-2.0
"""A hypothesis: changes of a module's mathematics that are to give what the port gave.

T tokens, C output channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tttdebug.analysis.causes import CAUSES
from tttdebug.analysis.finding import Fix
from tttdebug.analysis.mathematics import Arithmetic, Memory, Numbers, compute, computes, default_steps
from tttdebug.analysis.mathematics.ends import ids_of_sum
from tttdebug.specs import EmbeddingSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.memory import Kept
    from tttdebug.analysis.module_call import ModuleCall

WeightsOf: TypeAlias = "Callable[[Mapping[str, torch.Tensor], ModuleCall], Mapping[str, torch.Tensor]]"
OutputOf: TypeAlias = "Callable[[torch.Tensor, ModuleCall], torch.Tensor]"


@dataclass(frozen=True)
class Change:
    """One thing that a port may do otherwise, and what to write instead.

    `spec` changes what the spec says, `weights` the fp32 weights before their format is applied, `numbers` the formats,
    `steps` fields of the module's steps, `reads` what it makes of its input [T, D], and `output` what comes out.
    `fitted` counts the numbers in it that were fitted to the port's output; of two changes that explain it alike, the
    one with fewer is meant. A change that only says where the error sits has `localises`: it takes that part from the
    port, and explains no other call. `of_tokens` says that its `output` needs the output of all tokens.
    """

    cause: str
    says: str
    fix: Fix
    spec: Callable[[Any], Any] | None = None
    weights: WeightsOf | None = None
    numbers: Callable[[Numbers], Numbers] | None = None
    steps: Mapping[str, Any] = field(default_factory=dict)
    reads: Callable[[torch.Tensor], torch.Tensor] | None = None
    output: OutputOf | None = None
    fitted: int = 0
    localises: bool = False
    of_tokens: bool = False

    def __post_init__(self) -> None:
        if self.cause not in CAUSES:
            raise ValueError(f"{self.cause!r} is no cause; add it to CAUSES or take one of {', '.join(CAUSES)}")

    @property
    def is_of_output(self) -> bool:
        """Whether this changes nothing but what comes out."""
        others = (self.spec, self.weights, self.numbers, self.reads)
        return all(other is None for other in others) and not self.steps


@dataclass(frozen=True)
class Hypothesis:
    """Changes that hold together; none of them: the module as it should be."""

    changes: tuple[Change, ...] = ()

    @property
    def cause(self) -> str:
        return self.changes[0].cause if self.changes else "unknown"

    @property
    def says(self) -> str:
        return ", and ".join(change.says for change in self.changes) or "as it should be"

    @property
    def fitted(self) -> int:
        """How many numbers in it were fitted to the port's output."""
        return sum(change.fitted for change in self.changes)

    @property
    def fix(self) -> Fix:
        """What to write instead, change by change."""
        fixes = [change.fix for change in self.changes]
        settings = {name: value for fix in fixes for name, value in fix.settings.items()}
        return Fix("; ".join(fix.says for fix in fixes), "\n".join(fix.code for fix in fixes if fix.code), settings)

    @property
    def is_of_output(self) -> bool:
        """Whether nothing but what comes out is changed."""
        return all(change.is_of_output for change in self.changes)

    @property
    def of_tokens(self) -> bool:
        """Whether it can be tried on all tokens only."""
        return any(change.of_tokens for change in self.changes)

    @property
    def localises(self) -> bool:
        """Whether part of the output is not predicted but taken from the port."""
        return any(change.localises for change in self.changes)

    def plus(self, change: Change) -> Hypothesis:
        """This and one change more."""
        return Hypothesis((*self.changes, change))

    def predict(self, call: ModuleCall, memory: Memory | None = None, numbers: Numbers | None = None) -> torch.Tensor:
        """What the module would give for the call's input if this held, [T, C] fp32, or of fewer tokens.

        `memory` keeps what hypotheses about one call share and says of which tokens they are tried; `numbers` are the
        formats before any change, as the call has them if not given. Where the spec has no mathematics, the changes
        apply to the reference's own output. Raises WeightsError for a call without a weight that its spec needs.
        """
        numbers = numbers or Numbers(call.formats)
        for change in self.changes:
            numbers = numbers if change.numbers is None else change.numbers(numbers)
        out_TC = self._compute(call, memory or memory_of(call), numbers)
        for change in self.changes:
            out_TC = out_TC if change.output is None else change.output(out_TC, call)
        return out_TC

    def _compute(self, call: ModuleCall, memory: Memory, numbers: Numbers) -> torch.Tensor:
        import torch

        if call.spec is None or not computes(call):
            out_TC = memory.asked(call.reference_TC.float())
            return out_TC.to(torch.bfloat16).float() if numbers.rounds_activations else out_TC
        spec, weights, steps = call.spec, call.weights, default_steps(call.spec)
        for change in self.changes:
            spec = spec if change.spec is None else change.spec(spec)
            weights = weights if change.weights is None else change.weights(weights, call)
            steps = replace(steps, **change.steps)
            memory = memory if change.reads is None else memory.reading(change.reads)
        return compute(call, spec, Arithmetic(weights, numbers, memory), steps)


NOTHING = Hypothesis()


def memory_of(
    call: ModuleCall,
    rows: torch.Tensor | None = None,
    weights: Kept | None = None,
    *,
    changed_as_they_are: bool = False,
) -> Memory:
    """An empty memory for the variants of a call; what else is given is as in `Memory`."""
    return Memory(_input_of(call), call.weights, call.formats, rows, weights, changed_as_they_are=changed_as_they_are)


def _input_of(call: ModuleCall) -> torch.Tensor:
    """What the module reads, [T, D], or [T] for an embedding, whose counterpart may begin behind the look-up."""
    if not call.input_TD.is_floating_point():
        return call.input_TD.flatten()
    if isinstance(call.spec, EmbeddingSpec):
        return ids_of_sum(call.spec, call.weights, call.input_TD, call.positions_T)
    return call.input_TD.float()


def rel_l2(port: torch.Tensor, predicted: torch.Tensor) -> float:
    """‖port − predicted‖ / ‖predicted‖, in fp64; 0 where both are zero, inf where that is no number."""
    import torch

    error = float(torch.linalg.vector_norm((port - predicted).flatten(), dtype=torch.float64))
    norm = float(torch.linalg.vector_norm(predicted.flatten(), dtype=torch.float64))
    if error == 0.0:
        return 0.0
    return error / norm if norm and error < float("inf") else float("inf")
