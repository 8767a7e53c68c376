# SPDX-License-Identifier: Apache-2.0
"""The bench of one call: hypotheses are tried on it, and it says which of them the number formats cannot tell apart.

T tokens, C output channels, F channels before the last product, H query heads, E head dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from tttdebug.analysis.finding import Experiment, Fix
from tttdebug.analysis.hypotheses.hypothesis import NOTHING, Change, Hypothesis, rel_l2
from tttdebug.analysis.mathematics import Arithmetic, AttentionSteps, Memory, Numbers
from tttdebug.analysis.mathematics.attention import Heads, mix, project
from tttdebug.analysis.mathematics.feed_forward import inner
from tttdebug.analysis.mathematics.low_sums import low_sums
from tttdebug.specs import AttentionSpec, FeedForwardSpec, ModuleSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.module_call import ModuleCall

Spec = TypeVar("Spec", bound=ModuleSpec)
MARGIN = 1.5
"""How far above the error that is left to expect a right hypothesis may be: another rounding, not another function."""
CLEARLY = 0.5
"""A hypothesis explains an error when it takes at least half of it away."""


@dataclass(frozen=True)
class Trial:
    """A hypothesis that was tried: what it says, the error that is left when it holds, and whether that is the floor.

    `rel_l2` is ‖port − m‖ / ‖m‖, m what the changed mathematics gives, and `floor` what number formats leave of it.
    """

    cause: str
    says: str
    rel_l2: float
    at_floor: bool
    fix: Fix
    experiment: Experiment
    hypothesis: Hypothesis


@dataclass(frozen=True)
class LastProduct:
    """The product that a module ends in: the weight's name, what it reads, and the weight as the port reads it."""

    name: str
    inner_TF: torch.Tensor
    weight_CF: torch.Tensor


class Bench:
    """One call with all that its hypotheses share."""

    def __init__(self, call: ModuleCall) -> None:
        self.call = call
        self.port_TC = call.port_TC.float()
        self.memory = Memory(call.input_TD.float() if call.input_TD.is_floating_point() else call.input_TD)

    def predict(self, hypothesis: Hypothesis, *, as_on_device: bool = False) -> torch.Tensor:
        """What the module would give under that hypothesis, [T, C]; with activations and sums in their formats too."""
        if not all(change.is_of_output for change in hypothesis.changes):
            return hypothesis.predict(self.call, self.memory, self._on_device if as_on_device else None)
        out_TC = self._healthy_on_device_TC if as_on_device else self.healthy_TC
        for change in hypothesis.changes:
            out_TC = out_TC if change.output is None else change.output(out_TC, self.call)
        return out_TC

    def error(self, *changes: Change) -> float:
        """The rel_l2 that is left against the port when those changes hold."""
        return rel_l2(self.port_TC, self.predict(Hypothesis(changes)))

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """The call's weights as the port reads them."""
        return Arithmetic(self.call.weights, Numbers(self.call.formats), self.memory)

    @cached_property
    def heads(self) -> Heads:
        """Queries, keys and values of an attention as they should be."""
        spec, call = self._spec_of(AttentionSpec), self.call
        return project(spec, self.arithmetic, self.memory.input_TD, call.positions_T, call.past, AttentionSteps())

    @cached_property
    def last_product(self) -> LastProduct | None:
        """The product that a module ends in; None where it ends in none."""
        spec = self.call.spec
        if isinstance(spec, FeedForwardSpec):
            return LastProduct("w2", inner(spec, self.arithmetic, self.memory.input_TD), self.arithmetic.weight("w2"))
        if isinstance(spec, AttentionSpec):
            mixed_HTE = mix(spec, self.arithmetic, self.heads, self.call.positions_T, AttentionSteps())
            return LastProduct("wo", mixed_HTE.transpose(0, 1).flatten(1), self.arithmetic.weight("wo"))
        return None

    @cached_property
    def port_behind_TF(self) -> torch.Tensor:
        """The port's output times the last weight: what each inner channel has in common with it.

        Raises ValueError for a module that ends in no product.
        """
        if self.last_product is None:
            raise ValueError(f"{self.call.boundary} ends in no product with a weight")
        return self.port_TC @ self.last_product.weight_CF

    def _spec_of(self, spec_class: type[Spec]) -> Spec:
        if not isinstance(self.call.spec, spec_class):
            raise ValueError(f"{self.call.boundary} has no {spec_class.__name__}")
        return self.call.spec

    @cached_property
    def healthy_TC(self) -> torch.Tensor:
        """What the module should give, with weights as the port reads them."""
        return NOTHING.predict(self.call, self.memory)

    @cached_property
    def _healthy_on_device_TC(self) -> torch.Tensor:
        return NOTHING.predict(self.call, self.memory, self._on_device)

    @cached_property
    def _on_device(self) -> Numbers:
        """The call's formats with activations in bfloat16, and sums in bfloat16 where the port's settings say so."""
        return Numbers(self.call.formats, rounds_activations=True, multipliers=low_sums(self.call.formats))

    @cached_property
    def before(self) -> float:
        """The error against the mathematics as it should be."""
        return rel_l2(self.port_TC, self.healthy_TC)

    @cached_property
    def rounding(self) -> float:
        """What activations in bfloat16, and sums where they are, cost the healthy module."""
        return self._rounding_of(NOTHING, self.healthy_TC)

    @cached_property
    def floor(self) -> float:
        """The error that is left to expect when the weights are already as the port reads them: the floor less theirs.

        Errors of weights and of activations add up as squares; what rounding costs is the least of it.
        """
        of_weights = rel_l2(self.call.reference_TC.float(), self.healthy_TC)
        declared = self.call.floor_rel_l2
        of_activations = math.sqrt(max(declared**2 - of_weights**2, 0.0)) if math.isfinite(declared) else 0.0
        return max(self.rounding, of_activations)

    @property
    def is_at_floor(self) -> bool:
        """Whether the port gives what it should, as nearly as its number formats allow."""
        return self.before <= MARGIN * self.floor

    def floor_of(self, hypothesis: Hypothesis, predicted_TC: torch.Tensor) -> float:
        """The error to expect under a hypothesis: the floor, in the measure in which rounding costs more in it."""
        if not self.rounding:
            return self.floor
        return self.floor * max(1.0, self._rounding_of(hypothesis, predicted_TC) / self.rounding)

    def attempt(self, hypothesis: Hypothesis) -> Trial:
        """The hypothesis tried."""
        predicted_TC = self.predict(hypothesis)
        after = rel_l2(self.port_TC, predicted_TC)
        explains = after <= CLEARLY * self.before and not self.is_at_floor
        floor = self.floor_of(hypothesis, predicted_TC) if explains else self.floor
        return Trial(
            hypothesis.cause,
            hypothesis.says,
            after,
            explains and after <= MARGIN * floor,
            hypothesis.fix,
            Experiment(hypothesis.says, self.before, after, floor),
            hypothesis,
        )

    def _rounding_of(self, hypothesis: Hypothesis, predicted_TC: torch.Tensor) -> float:
        return rel_l2(self.predict(hypothesis, as_on_device=True), predicted_TC)
