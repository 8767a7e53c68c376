# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: a router that weighs the experts for every token, and the weighted sum of what they give.

S tokens, D hidden, X experts, A experts that a token goes to. Every expert computes every token and the router's
weight, 0 for most, decides what counts: one shape for all tokens, which is what the chip is good at.
"""

from __future__ import annotations

from typing import Any

from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, Vector, WeightFormat
from tttdebug.modules.plain_feed_forward import feed_forward_class
from tttdebug.modules.weight_shapes import Shapes, weight_shapes
from tttdebug.specs import MixtureOfExpertsSpec


class Router(TTModule[MixtureOfExpertsSpec]):
    """[1, 1, S, D] to logits and weights of the experts, both [1, 1, S, X].

    Weights: `weight` [X, D], `bias` and `selection_bias` [X] where the spec has them.
    """

    SPEC = MixtureOfExpertsSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hw, spec = self.hw_config, self.spec
        bias = WeightFormat(Vector(), hw.bias)
        self.projection = self.place("weight", WeightFormat(Linear(), hw.router, hw.li_router))
        self.bias = self.place("bias", bias) if spec.router_bias else None
        self.selection_bias = self.place("selection_bias", bias) if spec.selection_bias else None

    def shapes(self) -> Shapes:
        return {name.removeprefix("router."): shape for name, shape in weight_shapes(self.spec).items()}

    def forward(self, x_11SD: Any) -> tuple[Any, Any]:
        ttnn, spec = self.ttnn, self.spec
        logits_11SX = self.linear(x_11SD, self.projection, "li_router", self.bias)
        is_softmax = spec.router_scoring == "softmax"
        scores_11SX = ttnn.softmax(logits_11SX, dim=-1) if is_softmax else ttnn.sigmoid(logits_11SX)
        weights_11SX = self._kept(scores_11SX)
        if spec.normalise_scores:
            weights_11SX = ttnn.divide(weights_11SX, ttnn.sum(weights_11SX, dim=-1, keepdim=True))
        if spec.routed_scale != 1.0:
            weights_11SX = ttnn.multiply(weights_11SX, spec.routed_scale)
        return logits_11SX, weights_11SX

    def _kept(self, scores_11SX: Any) -> Any:
        """The scores of the experts that a token goes to, zeros for the others."""
        ttnn, nothing_11SX = self.ttnn, self.ttnn.multiply(scores_11SX, 0.0)
        if self.selection_bias is None:
            kept_11SA, experts_11SA = ttnn.topk(scores_11SX, self.spec.experts_per_token, dim=-1)
            return ttnn.scatter(nothing_11SX, -1, experts_11SA, kept_11SA)
        biased_11SX = ttnn.add(scores_11SX, self.selection_bias)
        kept_11SA, experts_11SA = ttnn.topk(biased_11SX, self.spec.experts_per_token, dim=-1)
        ones_11SA = ttnn.add(ttnn.multiply(kept_11SA, 0.0), 1.0)
        return ttnn.multiply(scores_11SX, ttnn.scatter(nothing_11SX, -1, experts_11SA, ones_11SA))


class MixtureOfExperts(TTModule[MixtureOfExpertsSpec]):
    """[1, 1, S, D] to [1, 1, S, D].

    Weights: `router.weight` [X, D] (and `router.bias`), those of a feed-forward under `experts.{x}.` for each expert
    and under `shared_expert.` for the one that sees every token, and `shared_expert_gate` [1, D].
    """

    SPEC = MixtureOfExpertsSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spec, here = self.spec, (self.device, self.hw_config)
        self.router = Router(spec, self.weights_of("router"), *here)
        expert = feed_forward_class(spec.expert)
        self.experts = [expert(spec.expert, self.weights_of(f"experts.{x}"), *here) for x in range(spec.num_experts)]
        self.shared_expert: Any = None
        if spec.shared_expert is not None:
            shared = feed_forward_class(spec.shared_expert)
            self.shared_expert = shared(spec.shared_expert, self.weights_of("shared_expert"), *here)
        gate = WeightFormat(Linear(), self.hw_config.router, self.hw_config.li_router)
        self.shared_gate = self.place("shared_expert_gate", gate) if spec.shared_expert_gate else None

    def forward(self, x_11SD: Any) -> Any:
        ttnn, tokens = self.ttnn, x_11SD.shape[-2]
        _, weights_11SX = self.router(x_11SD)
        total_11SD = self._shared(x_11SD)
        for x, expert in enumerate(self.experts):
            weight_11S1 = ttnn.slice(weights_11SX, [0, 0, 0, x], [1, 1, tokens, x + 1])
            part_11SD = ttnn.multiply(expert(x_11SD), weight_11S1)
            total_11SD = part_11SD if total_11SD is None else ttnn.add(total_11SD, part_11SD)
        return total_11SD

    def _shared(self, x_11SD: Any) -> Any:
        """What the shared expert gives, behind its gate; None without one."""
        if self.shared_expert is None:
            return None
        out_11SD = self.shared_expert(x_11SD)
        if self.shared_gate is None:
            return out_11SD
        return self.ttnn.multiply(out_11SD, self.ttnn.sigmoid(self.linear(x_11SD, self.shared_gate, "li_router")))
