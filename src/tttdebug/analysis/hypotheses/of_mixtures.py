# SPDX-License-Identifier: Apache-2.0
"""Causes of a mixture's error in its router, in its shares, in what is added to them, and in every expert alike.

R tokens, D hidden, X experts, Y experts in whose places those may stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.hypotheses.of_weights import exchange_weights
from tttdebug.analysis.hypotheses.orders import best_order, in_words
from tttdebug.analysis.mathematics.feed_forward import ACTIVATIONS, FeedForwardSteps, feed_forward
from tttdebug.analysis.mathematics.mixture import MixtureSteps, shares
from tttdebug.specs import MixtureOfExpertsSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench


def of_router(bench: Bench) -> Iterator[Change]:
    """Other experts, or other shares of them."""
    spec = bench.call.spec
    if not isinstance(spec, MixtureOfExpertsSpec):
        return
    if spec.normalise_scores:
        yield _routing(
            "the kept scores are not made to sum to 1", "divide the kept scores by their sum", normalise_scores=False
        )
    else:
        yield _routing("the kept scores are made to sum to 1", "do not divide the kept scores", normalise_scores=True)
    other = "sigmoid" if spec.router_scoring == "softmax" else "softmax"
    yield _routing(
        f"scores are a {other} instead of a {spec.router_scoring}", f"use {spec.router_scoring}", router_scoring=other
    )
    for count in (spec.experts_per_token - 1, spec.experts_per_token + 1, 1, 2 * spec.experts_per_token):
        if 1 <= count <= spec.num_experts and count != spec.experts_per_token:
            says = f"a token goes to {count} experts instead of {spec.experts_per_token}"
            yield _routing(says, f"keep the best {spec.experts_per_token}", experts_per_token=count)
    if spec.routed_scale != 1.0:
        says = f"the experts' sum is not multiplied by {spec.routed_scale:g}"
        yield _routing(says, f"multiply it by {spec.routed_scale:g}", routed_scale=1.0)
    yield Change(
        "routing", "all kept experts count alike", Fix("weigh them by their scores"), steps={"equal_shares": True}
    )
    if spec.selection_bias:
        yield Change(
            "routing",
            "the selection bias counts in the shares too",
            Fix("add the bias for the choice only"),
            steps={"bias_counts": True},
        )
        yield Change(
            "routing",
            "the selection bias is not added for the choice",
            Fix("add it before the best experts are chosen"),
            steps={"biases_selection": False},
        )


def of_shared_expert(bench: Bench) -> Iterator[Change]:
    """The expert that sees every token left out, or not gated."""
    spec = bench.call.spec
    if not isinstance(spec, MixtureOfExpertsSpec) or spec.shared_expert is None:
        return
    yield Change(
        "weight_missing", "the shared expert is not added", Fix("add the shared expert"), steps={"shared_expert": False}
    )
    if spec.shared_expert_gate:
        yield Change(
            "weight_missing",
            "the shared expert's gate is not applied",
            Fix("multiply the shared expert's output by the sigmoid of its gate"),
            steps={"shared_gate": False},
        )


def of_experts(bench: Bench) -> Iterator[Change]:
    """Every expert with another activation, gate and up exchanged, or experts in another order."""
    spec = bench.call.spec
    if not isinstance(spec, MixtureOfExpertsSpec):
        return
    own = spec.expert.nonlinearity
    for function in ACTIVATIONS:
        if function != own:
            says = f"the experts' activation is {function} instead of {own}"
            yield Change("activation", says, Fix(f"apply {own}"), steps={"expert": FeedForwardSteps(function)})
    if spec.expert.is_gated:
        paths = [f"experts.{expert}." for expert in range(spec.num_experts)]
        yield Change(
            "weights_exchanged",
            "gate (w1) and up (w3) are exchanged in every expert",
            Fix("exchange w1 and w3 of the experts"),
            weights=exchange_weights([(f"{path}w1", f"{path}w3") for path in paths]),
        )
    for shift in (1, -1):
        order = tuple((expert + shift) % spec.num_experts for expert in range(spec.num_experts))
        yield _order(f"each token goes to the expert {shift:+d} beside its own", order)
    if (found := best_order(_likeness_of_experts(bench.sketch, spec))) is not None:
        yield _order(f"the experts are in another order: {in_words(found)}", found)


def _order(says: str, order: tuple[int, ...]) -> Change:
    return Change("routing", says, Fix("number the experts as the router does"), steps={"expert_order": order})


def _likeness_of_experts(bench: Bench, spec: MixtureOfExpertsSpec) -> torch.Tensor:
    """How much the port's output of the tokens that go to an expert is like each expert's, [X, Y]."""
    import torch

    x_RD, healthy_RD = bench.memory.asked_TD, bench.healthy_TC
    shares_RX = shares(spec, bench.arithmetic, x_RD, MixtureSteps())
    given_YRD = torch.stack(
        [
            feed_forward(spec.expert, bench.arithmetic.under(f"experts.{expert}"), x_RD, FeedForwardSteps())
            for expert in range(spec.num_experts)
        ]
    )
    routed_RD = bench.port_TC - healthy_RD + torch.einsum("rx,xrd->rd", shares_RX, given_YRD)  # less a shared expert's
    goes_RX = (shares_RX > 0).float()
    alike_XY = torch.einsum("rx,rd,yrd->xy", shares_RX, routed_RD, given_YRD)
    found_X = (shares_RX.T.square() @ routed_RD.square().sum(1)).sqrt()
    meant_XY = (goes_RX.T @ given_YRD.square().sum(2).T).sqrt()
    own_XY = 1e-6 * torch.eye(spec.num_experts)  # of those that no token goes to nothing is known
    return alike_XY / (found_X[:, None] * meant_XY).clamp_min(1e-30) + own_XY


def _routing(says: str, fix: str, **changes: object) -> Change:
    return Change("routing", says, Fix(fix), spec=lambda spec: replace(spec, **changes))
