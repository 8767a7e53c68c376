# SPDX-License-Identifier: Apache-2.0
"""Feed-forward: `FeedForwardSpec`, one network, and `MixtureOfExpertsSpec`, many with a router before them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tttdebug.specs.cost import Cost, Workload, linear
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.validation import Count, Dim, Positive, Rule

Activation = Literal["swiglu", "geglu", "geglu_tanh", "reglu", "gelu", "gelu_tanh", "silu", "relu", "relu2"]
Nonlinearity = Literal["gelu", "gelu_tanh", "silu", "relu", "relu2"]
RouterScoring = Literal["softmax", "sigmoid"]

GATE_NONLINEARITY: dict[str, Nonlinearity] = {
    "swiglu": "silu",
    "geglu": "gelu",
    "geglu_tanh": "gelu_tanh",
    "reglu": "relu",
}


@dataclass(frozen=True, repr=False)
class FeedForwardSpec(ModuleSpec):
    """Feed-forward network from hidden_dim to intermediate_dim and back.

    gated (…glu)  down(f(gate(x)) * up(x)), f the gate's nonlinearity (Shazeer 2020, arXiv 2002.05202)
    else          down(f(up(x)))
    gelu is the exact one (erf), gelu_tanh its tanh approximation, relu2 is max(x, 0)^2.
    """

    hidden_dim: Dim
    intermediate_dim: Dim
    activation: Activation = "swiglu"
    bias: bool = False
    fused_gate_up: bool = False  # the checkpoint holds gate and up as one matrix, gate first

    RULES = (
        Rule(
            "fused_gate_up",
            needs=("activation",),
            holds=lambda spec: spec.is_gated or not spec.fused_gate_up,
            says="needs a gated activation, but {spec.activation!r} has no gate",
            suggestion=f"take one of {', '.join(GATE_NONLINEARITY)}, or fused_gate_up=False",
        ),
    )

    @property
    def is_gated(self) -> bool:
        """Whether there is a gate projection beside the up projection."""
        return self.activation in GATE_NONLINEARITY

    @property
    def nonlinearity(self) -> Nonlinearity:
        """The function f, by its own name: silu for swiglu, and so on."""
        return GATE_NONLINEARITY.get(self.activation, self.activation)  # type: ignore[arg-type]

    def _cost(self, workload: Workload) -> Cost:
        return self._cost_of_tokens(workload.tokens)

    def _cost_of_tokens(self, tokens: int) -> Cost:
        inward = linear(tokens, self.hidden_dim, self.intermediate_dim, self.bias)
        outward = linear(tokens, self.intermediate_dim, self.hidden_dim, self.bias)
        return inward + inward + outward if self.is_gated else inward + outward


@dataclass(frozen=True, repr=False)
class MixtureOfExpertsSpec(ModuleSpec):
    """A router that sends every token to `experts_per_token` of `num_experts` equal experts and sums their outputs.

    The router scores all experts (softmax over all, or a sigmoid each), keeps the best, optionally makes the kept
    scores sum to 1, and multiplies them with `routed_scale`. With `selection_bias` those are kept that are best after a
    learned number each is added, which then counts no more (DeepSeek-V3, arXiv 2412.19437). `shared_expert` sees every
    token; with `shared_expert_gate` its output is multiplied by a sigmoid of a projection to one number.
    """

    expert: FeedForwardSpec
    num_experts: Count
    experts_per_token: Count
    router_scoring: RouterScoring = "softmax"
    normalise_scores: bool = True
    routed_scale: Positive = 1.0
    router_bias: bool = False
    selection_bias: bool = False
    shared_expert: FeedForwardSpec | None = None
    shared_expert_gate: bool = False

    RULES = (
        Rule(
            "experts_per_token",
            needs=("num_experts",),
            holds=lambda spec: spec.experts_per_token <= spec.num_experts,
            says="must not exceed num_experts ({spec.num_experts})",
            suggestion="give {spec.num_experts} or less",
        ),
        Rule(
            "shared_expert",
            needs=("expert",),
            holds=lambda spec: spec.shared_expert is None or spec.shared_expert.hidden_dim == spec.expert.hidden_dim,
            says="must have the experts' hidden_dim ({spec.expert.hidden_dim})",
            suggestion="give it hidden_dim={spec.expert.hidden_dim}",
        ),
        Rule(
            "shared_expert_gate",
            needs=("shared_expert",),
            holds=lambda spec: not spec.shared_expert_gate or spec.shared_expert is not None,
            says="needs a shared_expert",
            suggestion="give the shared_expert, or shared_expert_gate=False",
        ),
    )

    @property
    def hidden_dim(self) -> int:
        """Width of input and output."""
        return self.expert.hidden_dim

    def _cost(self, workload: Workload) -> Cost:
        tokens = workload.tokens
        routed = self.expert._cost_of_tokens(tokens * self.experts_per_token)
        experts_read = min(self.num_experts, tokens * self.experts_per_token)
        biases = self.num_experts if self.selection_bias else 0
        router = linear(tokens, self.hidden_dim, self.num_experts, self.router_bias)
        total = router + Cost(weight_count=biases, weights_read=biases)
        total += replace(
            routed,
            weight_count=routed.weight_count * self.num_experts,
            weights_read=routed.weight_count * experts_read,
        )
        if self.shared_expert is not None:
            total += self.shared_expert._cost(workload)
        if self.shared_expert_gate:
            total += linear(tokens, self.hidden_dim, 1)
        return total
