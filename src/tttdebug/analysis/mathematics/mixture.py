# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts: the router's shares, and the sum of what the experts give.

T tokens, D hidden, X experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.analysis.mathematics.feed_forward import FeedForwardSteps, feed_forward

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.specs import MixtureOfExpertsSpec


@dataclass(frozen=True)
class MixtureSteps:
    """What a mixture does where the spec leaves no choice.

    `softmax_over_kept` takes the softmax of the kept experts' logits alone; `shared_expert` and `shared_gate` say
    whether those are applied; `equal_shares` weighs the kept experts alike; `expert_order` is the expert that stands
    in each one's place; `expert` holds the steps of every expert.
    """

    equal_shares: bool = False
    shared_expert: bool = True
    shared_gate: bool = True
    bias_counts: bool = False
    biases_selection: bool = True
    expert_order: tuple[int, ...] | None = None
    expert: FeedForwardSteps = FeedForwardSteps()  # noqa: RUF009 - a frozen value


def mixture(
    spec: MixtureOfExpertsSpec, arithmetic: Arithmetic, x_TD: torch.Tensor, steps: MixtureSteps = MixtureSteps()
) -> torch.Tensor:
    """Hidden states [T, D] to hidden states [T, D]; an expert computes only the tokens that go to it.

    Raises WeightsError for a missing weight.
    """
    import torch

    shares_TX = arithmetic.rounded(shares(spec, arithmetic, x_TD, steps))
    out_TD = torch.zeros_like(x_TD)
    for expert in range(spec.num_experts):
        tokens = shares_TX[:, expert].nonzero().flatten()
        if len(tokens):
            held = expert if steps.expert_order is None else steps.expert_order[expert]
            part_TD = _expert(spec, arithmetic, held, x_TD, steps)[tokens]
            out_TD[tokens] += shares_TX[tokens, expert, None] * part_TD
    if spec.shared_expert is None or not steps.shared_expert:
        return arithmetic.rounded(out_TD)
    shared_TD = feed_forward(spec.shared_expert, arithmetic.under("shared_expert"), x_TD, steps.expert)
    if spec.shared_expert_gate and steps.shared_gate:
        shared_TD = shared_TD * arithmetic.linear(x_TD, "shared_expert_gate").sigmoid()
    return arithmetic.rounded(out_TD + shared_TD)


def shares(spec: MixtureOfExpertsSpec, arithmetic: Arithmetic, x_TD: torch.Tensor, steps: MixtureSteps) -> torch.Tensor:
    """Each expert's share in each token's output, [T, X], zero for those that a token does not go to."""
    import torch

    logits_TX = arithmetic.linear(x_TD, "router.weight", "router.bias" if spec.router_bias else None)
    scores_TX = logits_TX.softmax(-1) if spec.router_scoring == "softmax" else logits_TX.sigmoid()
    chosen_by_TX = scores_TX
    if spec.selection_bias and steps.biases_selection:
        chosen_by_TX = scores_TX + arithmetic.weight("router.selection_bias")
    if steps.bias_counts:
        scores_TX = chosen_by_TX
    experts_TA = chosen_by_TX.topk(spec.experts_per_token, dim=-1).indices
    kept_TA = scores_TX.gather(-1, experts_TA)
    if steps.equal_shares:
        kept_TA = torch.ones_like(kept_TA) / spec.experts_per_token
    elif spec.normalise_scores:
        kept_TA = kept_TA / kept_TA.sum(-1, keepdim=True)
    return torch.zeros_like(scores_TX).scatter(-1, experts_TA, spec.routed_scale * kept_TA)


def _expert(
    spec: MixtureOfExpertsSpec, arithmetic: Arithmetic, expert: int, x_TD: torch.Tensor, steps: MixtureSteps
) -> torch.Tensor:
    return feed_forward(spec.expert, arithmetic.under(f"experts.{expert}"), x_TD, steps.expert)
