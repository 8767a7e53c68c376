# SPDX-License-Identifier: Apache-2.0
"""The bench of one call: hypotheses are tried on it, and it says which of them the number formats cannot tell apart.

T tokens, R those that are looked at, C output channels, F channels before the last product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from tttdebug.analysis.finding import Experiment, Fix
from tttdebug.analysis.hypotheses.hypothesis import NOTHING, Change, Hypothesis, memory_of, rel_l2
from tttdebug.analysis.hypotheses.names import bias_of
from tttdebug.analysis.hypotheses.narrowing import narrowed
from tttdebug.analysis.mathematics import Arithmetic, AttentionSteps, Memory, Numbers
from tttdebug.analysis.mathematics.attention import Heads, mix, project
from tttdebug.analysis.mathematics.feed_forward import inner
from tttdebug.analysis.mathematics.low_sums import low_sums
from tttdebug.analysis.mathematics.rotary_order import in_halves
from tttdebug.specs import AttentionSpec, FeedForwardSpec, InvalidSpecError, ModuleSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.module_call import KeysValues, ModuleCall

Spec = TypeVar("Spec", bound=ModuleSpec)
MARGIN = 1.5
"""How far above the error that is left to expect a right hypothesis may be: another rounding, not another function."""
FEW_TOKENS, FEW_MARGIN = 8, 1.8
"""The same of so few tokens, whose errors scatter."""
NEARLY_ALL = 0.25
"""Times by how much a hypothesis lessens an error, the margin: what leaves next to nothing is right."""
OF_NUMBERS = ("cast_low", "fidelity_low", "accumulation_low", "approximate_exp")
MOST_TIMES_OF_NUMBERS = 12.0
"""The same where numbers are coarser: there a small error decides which way a value is rounded."""
DECIDED = 0.85
"""So many tokens of a mixture go to the experts that the mathematics sends them to, whatever is rounded."""
ONE_ROUNDING = 2.0**-9 / 3**0.5
"""What rounding to bfloat16 costs once: nothing else than what was rounded before comes out with less."""
CLEARLY = 0.5
"""A hypothesis explains an error when it takes at least half of it away."""
MOST_TIMES = 3.0
"""A changed module is granted at most so many times the healthy one's floor."""
_RIDGE = 1e-3  # of the mean of a weight's squares, below which nothing of it is undone: that would be rounding
MOST_TOKENS = 512
"""Of longer calls so many tokens are looked at, spread over all."""
SKETCHED = 32
"""So many tokens are enough to tell hypotheses apart, though not to confirm one."""


@dataclass(frozen=True)
class Trial:
    """A hypothesis that was tried: what it says, the error that is left when it holds, and whether that is the floor.

    `rel_l2` is ‖port − m‖ / ‖m‖, m what the changed mathematics gives.
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
    inner_RF: torch.Tensor
    weight_CF: torch.Tensor


class Bench:
    """One call, or some of its tokens, with all that its hypotheses share."""

    def __init__(
        self,
        call: ModuleCall,
        rows: torch.Tensor | None = None,
        sketch_of: Bench | None = None,
        *,
        at_fault: bool = False,
    ) -> None:
        """`at_fault` says that the module is known to err, however little above its formats."""
        self.call, self.rows, self.at_fault = call, rows, at_fault
        shared = None if sketch_of is None else sketch_of.memory.weights
        self.memory: Memory = memory_of(call, rows, shared, changed_as_they_are=sketch_of is not None)
        self.port_TC = self.memory.asked(call.port_TC.float())

    @classmethod
    def of(cls, call: ModuleCall, *, at_fault: bool = False) -> Bench:
        """The bench of a call; of a very long one, of some of its tokens, and of some of very many logits."""
        tokens = call.port_TC.shape[0]
        rows = spread(tokens, MOST_TOKENS) if tokens > 2 * MOST_TOKENS else None
        return cls(narrowed(call), rows, at_fault=at_fault)

    @property
    def has_all_tokens(self) -> bool:
        """Whether every token of the call is looked at."""
        return self.rows is None

    @cached_property
    def sketch(self) -> Bench:
        """A few tokens of the same call, on which a change costs little to try; changed weights stay in fp32."""
        tokens = self.call.port_TC.shape[0]
        return Bench(self.call, spread(tokens, SKETCHED) if tokens > SKETCHED else None, sketch_of=self)

    def predict(self, hypothesis: Hypothesis, *, as_on_device: bool = False) -> torch.Tensor:
        """What the module would give under that hypothesis, [R, C]; with activations and sums in their formats too."""
        if not hypothesis.is_of_output:
            return hypothesis.predict(self.call, self.memory, self._on_device if as_on_device else None)
        return self._put_out(hypothesis, self._healthy_on_device_TC if as_on_device else self.healthy_TC)

    def _put_out(self, hypothesis: Hypothesis, out_RC: torch.Tensor) -> torch.Tensor:
        """What comes out of a module that gives this."""
        for change in hypothesis.changes:
            out_RC = out_RC if change.output is None else change.output(out_RC, self.call)
        return out_RC

    def error(self, *changes: Change) -> float:
        """The rel_l2 that is left against the port when those changes hold; inf where no spec can have them."""
        try:
            return rel_l2(self.port_TC, self.predict(Hypothesis(changes)))
        except InvalidSpecError:
            return math.inf

    def attempt(self, hypothesis: Hypothesis) -> Trial:
        """The hypothesis tried."""
        predicted_RC = self.predict(hypothesis)
        after, left = rel_l2(self.port_TC, predicted_RC), self._left(predicted_RC)
        explains = left <= CLEARLY * self.before and not self.is_at_floor
        floor = self.floor_of(hypothesis) if explains else self.floor
        return Trial(
            hypothesis.cause,
            hypothesis.says,
            after,
            explains and left <= self._margin(left) * floor,
            hypothesis.fix,
            Experiment(hypothesis.says, self.before, after, floor),
            hypothesis,
        )

    @cached_property
    def healthy_TC(self) -> torch.Tensor:
        """What the module should give, with weights as the port reads them."""
        return NOTHING.predict(self.call, self.memory)

    @cached_property
    def before(self) -> float:
        """The error against the mathematics as it should be."""
        return rel_l2(self.port_TC, self.healthy_TC)

    @cached_property
    def floor(self) -> float:
        """The error that is left to expect when the weights are already as the port reads them: the floor less theirs.

        Errors of weights and of activations add up as squares; what rounding costs is the least of it.
        """
        of_weights = rel_l2(self.memory.asked(self.call.reference_TC.float()), self.healthy_TC)
        declared = self.call.floor_rel_l2
        of_activations = math.sqrt(max(declared**2 - of_weights**2, 0.0)) if math.isfinite(declared) else 0.0
        return math.hypot(max(self.sketch.rounding, of_activations), self.sketch.of_unsaid_formats)

    @cached_property
    def of_unsaid_formats(self) -> float:
        """What weights in bfloat8_b cost, where the port does not say how it keeps them; else 0."""
        from tttdebug.modules.placement import Linear, WeightFormat

        matrices = [name for name, weight in self.call.weights.items() if weight.dim() == 2]
        if self.call.formats or not matrices or self.call.kind == "embedding":
            return 0.0
        in_blocks = Numbers(dict.fromkeys(matrices, WeightFormat(Linear(), "bfloat8_b")))
        return rel_l2(NOTHING.predict(self.call, self.memory, in_blocks), self.healthy_TC)

    @property
    def is_at_floor(self) -> bool:
        """Whether the port gives what it should, as nearly as its number formats allow, and is not known to err."""
        return not self.at_fault and self.before <= MARGIN * self.floor

    def _left(self, predicted_RC: torch.Tensor) -> float:
        """The error that a prediction leaves: of a mixture of experts where most tokens are.

        In some of its tokens rounding decides which experts they go to.
        """
        if self.call.kind != "mixture" or len(self.port_TC) < FEW_TOKENS:
            return rel_l2(self.port_TC, predicted_RC)
        off_R = (self.port_TC - predicted_RC).norm(dim=1)
        most = off_R.argsort()[: round(DECIDED * len(off_R))]
        return rel_l2(self.port_TC[most], predicted_RC[most])

    def _margin(self, left: float) -> float:
        """How far above the floor an error may be left: the farther, the less is left of what was there."""
        least = MARGIN if len(self.port_TC) >= FEW_TOKENS else FEW_MARGIN
        return min(max(least, NEARLY_ALL * self.before / left), MOST_TIMES) if left else least

    def floor_of(self, hypothesis: Hypothesis) -> float:
        """The error to expect under a hypothesis: the floor, in the measure in which rounding costs more in it."""
        if hypothesis.of_tokens or not self.sketch.rounding:
            return max(self.floor, ONE_ROUNDING)
        if hypothesis.is_of_output and hypothesis.cause in OF_NUMBERS:
            return max(self._floor_behind(hypothesis), self.floor, ONE_ROUNDING)
        times = self.sketch.rounding_of(hypothesis) / self.sketch.rounding
        most = MOST_TIMES_OF_NUMBERS if hypothesis.cause in OF_NUMBERS else MOST_TIMES
        return max(self.floor * min(max(1.0, times), most), ONE_ROUNDING)

    def _floor_behind(self, hypothesis: Hypothesis) -> float:
        """What becomes of an error as great as the floor when the output is rounded once more."""
        import torch

        noise_RC = torch.randn(self.healthy_TC.shape, generator=torch.Generator().manual_seed(0))
        noisy_RC = self._put_out(hypothesis, self.healthy_TC * (1 + self.floor * noise_RC))
        return rel_l2(noisy_RC, self._put_out(hypothesis, self.healthy_TC))

    @cached_property
    def rounding(self) -> float:
        """What activations in bfloat16, and sums where they are, cost the healthy module."""
        return self.rounding_of(NOTHING)

    def rounding_of(self, hypothesis: Hypothesis) -> float:
        """The same under a hypothesis."""
        return rel_l2(self.predict(hypothesis, as_on_device=True), self.predict(hypothesis))

    @cached_property
    def _healthy_on_device_TC(self) -> torch.Tensor:
        return NOTHING.predict(self.call, self.memory, self._on_device)

    @cached_property
    def _on_device(self) -> Numbers:
        """The call's formats with activations in bfloat16, and sums in bfloat16 where the port's settings say so."""
        return Numbers(self.call.formats, rounds_activations=True, multipliers=low_sums(self.call.formats))

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """The call's weights as the port reads them."""
        return Arithmetic(self.call.weights, Numbers(self.call.formats), self.memory)

    @cached_property
    def heads(self) -> Heads:
        """Queries, keys and values of an attention as they should be. Raises ValueError for another module."""
        call = self.call
        if not isinstance(call.spec, AttentionSpec):
            raise ValueError(f"{call.boundary} has no heads: it is no attention")
        past = in_halves(call, self.arithmetic, call.past)
        return project(call.spec, self.arithmetic, call.positions_T, past, AttentionSteps())

    @cached_property
    def port_fresh(self) -> KeysValues | None:
        """The keys and values that the port's call wrote, in the order in which the mathematics has them."""
        return in_halves(self.call, self.arithmetic, self.call.port_fresh)

    @cached_property
    def last_product(self) -> LastProduct | None:
        """The product that a module ends in; None where it ends in none."""
        spec, memory = self.call.spec, self.memory
        if isinstance(spec, FeedForwardSpec):
            return LastProduct("w2", inner(spec, self.arithmetic, memory.asked_TD), self.arithmetic.weight("w2"))
        if isinstance(spec, AttentionSpec):
            positions_R = memory.asked(self.call.positions_T)
            mixed_HRE = mix(spec, self.arithmetic, self.heads, positions_R, AttentionSteps())
            return LastProduct("wo", mixed_HRE.transpose(0, 1).flatten(1), self.arithmetic.weight("wo"))
        return None

    @cached_property
    def port_behind_RF(self) -> torch.Tensor:
        """What the last product must have read to give the port's output, as nearly as its weight can be undone.

        Raises ValueError for a module that ends in no product.
        """
        import torch

        last = self.last_product
        if last is None:
            raise ValueError(f"{self.call.boundary} ends in no product with a weight")
        port_RC, bias = self.port_TC, bias_of(last.name)
        if self.arithmetic.has(bias):
            port_RC = port_RC - self.arithmetic.weight(bias)
        gram_CC = last.weight_CF @ last.weight_CF.T
        gram_CC.diagonal().add_(_RIDGE * gram_CC.diagonal().mean())
        solved_CR = torch.linalg.solve(gram_CC, port_RC.T)
        return solved_CR.T @ last.weight_CF


def spread(count: int, most: int) -> torch.Tensor:
    """Indices of `most` of `count` tokens, evenly spread, the first and the last among them."""
    import torch

    return torch.linspace(0, count - 1, most).round().long().unique()
