# SPDX-License-Identifier: Apache-2.0
"""Faults of feed-forward networks, mixtures, layers, embeddings and heads: what is between and around the products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tttdebug.faults import kinds
from tttdebug.faults.seen_as import Entry, OtherOps, SeenAs, run_as, with_ops, wrap
from tttdebug.faults.site import Fault, Site, fault
from tttdebug.modules.feed_forward import GATES
from tttdebug.modules.positions import ids_on_device

_PLAIN = ("gelu", "silu", "relu", "relu2")


def _other_functions(site: Site, known: tuple[str, ...]) -> list[str]:
    """Functions that differ from the one meant by more than the two gelus do."""
    own = site.spec.nonlinearity
    return [name for name in known if name != own and not (name.startswith("gelu") and own.startswith("gelu"))]


def _other_gate(site: Site) -> None:
    name = site.choose(_other_functions(site, tuple(GATES)))
    run_as(site.module, gate=getattr(site.ttnn.UnaryOpType, GATES[name]))


def _no_gate_function(site: Site) -> None:
    ttnn = site.ttnn
    with_ops(site.module, multiply=lambda a, b, input_tensor_a_activations=(): ttnn.multiply(a, b))


def _other_activation(site: Site) -> None:
    run_as(site.module, spec=site.spec.replace(activation=site.choose(_other_functions(site, _PLAIN))))


def _no_biases(site: Site) -> None:
    name = site.choose(("b1", "b2", "b3") if kinds.gated(site) else ("b1", "b2"))
    without: dict[str, Any] = {name: None}
    run_as(site.module, **without)


def _other_count(site: Site) -> None:
    spec = site.spec
    counts = [c for c in (spec.experts_per_token - 1, spec.experts_per_token + 1) if 1 <= c <= spec.num_experts]
    run_as(site.module.router, spec=spec.replace(experts_per_token=site.choose(counts)))


def _not_normalised(site: Site) -> None:
    run_as(site.module.router, spec=site.spec.replace(normalise_scores=not site.spec.normalise_scores))


def _experts_permuted(site: Site) -> None:
    experts = site.module.experts
    step = site.number(1, len(experts) - 1)
    run_as(site.module, experts=[*experts[step:], *experts[:step]])


def _at_sum(place: int, change: Callable[[Any, Any, Any], Any]) -> Callable[[Site], None]:
    """Make the layer's sum number `place` otherwise: `change(ttnn, residual, branch)`."""

    def inject(site: Site) -> None:
        module, ttnn = site.module, site.ttnn

        def rest(x_11SD: Any, attended_11SD: Any) -> Any:
            sums = 0

            def add(residual: Any, branch: Any) -> Any:
                nonlocal sums
                sums += 1
                return change(ttnn, residual, branch) if sums == place + 1 else ttnn.add(residual, branch)

            seen = SeenAs(module, {"ttnn": OtherOps(ttnn, {"add": add})})
            return type(module).rest(seen, x_11SD, attended_11SD)

        vars(module)["rest"] = rest

    return inject


def _branch_alone(ttnn: Any, residual: Any, branch: Any) -> Any:
    return ttnn.multiply(branch, 1.0)  # the layer frees the branch


def _residual_twice(ttnn: Any, residual: Any, branch: Any) -> Any:
    return ttnn.add(ttnn.add(residual, branch), residual)


def _other_embedding_scale(site: Site) -> None:
    meant = site.spec.scale
    scale = site.spec.hidden_dim**0.5 if meant is None else site.choose((None, meant**0.5))
    run_as(site.module, spec=site.spec.replace(scale=scale))


def _positions_ahead(site: Site) -> None:
    """The row of a later position, as of tables that begin with rows for nothing."""
    shift, module, ttnn = site.choose((1, 2)), site.module, site.ttnn

    def around(entry: Entry) -> Entry:
        def forward(token_ids_1S: Any, positions: Any, *others: Any) -> Any:
            def ids(rows: int) -> Any:
                moved = (ttnn.to_torch(positions.ids(rows)).long() + shift).clamp(max=rows - 1)
                return ids_on_device(ttnn, module.device, moved)

            return entry(token_ids_1S, SeenAs(positions, {"ids": ids}), *others)

        return forward

    wrap(module, around)


def _no_positions(site: Site) -> None:
    run_as(site.module, positions=None)


def _other_logit_scale(site: Site) -> None:
    run_as(site.module, spec=site.spec.replace(logit_scale=None if site.spec.logit_scale else site.choose((0.5, 0.1))))


def _other_logit_cap(site: Site) -> None:
    cap = site.spec.logit_softcap
    run_as(site.module, spec=site.spec.replace(logit_softcap=None if cap else 2.0))


_biased = kinds.both(kinds.network, lambda site: site.spec.bias)
_positioned = kinds.both(kinds.embedding, lambda site: site.spec.learned_positions is not None)
FAULTS: tuple[Fault, ...] = (
    fault("gate_function", "code", "activation", kinds.gated, _other_gate),
    fault("gate_function_missing", "code", "activation", kinds.gated, _no_gate_function),
    fault("activation", "code", "activation", kinds.plain, _other_activation),
    fault("network_bias_missing", "code", "bias_missing", _biased, _no_biases),
    fault("experts_per_token", "code", "routing", kinds.mixture, _other_count),
    fault("shares_not_normalised", "code", "routing", kinds.mixture, _not_normalised),
    fault("experts_permuted", "code", "routing", kinds.mixture, _experts_permuted),
    fault("attention_residual_missing", "code", "residual_missing", kinds.layer, _at_sum(0, _branch_alone)),
    fault("network_residual_missing", "code", "residual_missing", kinds.layer, _at_sum(1, _branch_alone)),
    fault("attention_residual_doubled", "code", "residual_doubled", kinds.layer, _at_sum(0, _residual_twice)),
    fault("network_residual_doubled", "code", "residual_doubled", kinds.layer, _at_sum(1, _residual_twice)),
    fault("embedding_scale", "code", "embedding_scale", kinds.embedding, _other_embedding_scale),
    fault("learned_positions_ahead", "code", "position_offset", _positioned, _positions_ahead),
    fault("learned_positions_missing", "code", "weight_missing", _positioned, _no_positions),
    fault("logit_scale", "code", "logits_scale scaled", kinds.head, _other_logit_scale),
    fault("logit_softcap", "code", "softcap", kinds.head, _other_logit_cap),
)
