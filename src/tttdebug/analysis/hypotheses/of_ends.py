# SPDX-License-Identifier: Apache-2.0
"""Causes of an error where a model begins and ends: scales, learned positions, caps, shifted ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.hypotheses.of_attention import caps
from tttdebug.specs import EmbeddingSpec, LMHeadSpec

if TYPE_CHECKING:
    from tttdebug.analysis.hypotheses.bench import Bench


def embedding(bench: Bench) -> Iterator[Change]:
    """What may be wrong with an embedding."""
    spec = bench.call.spec
    if not isinstance(spec, EmbeddingSpec):
        return
    if spec.scale is not None:
        yield Change(
            "embedding_scale",
            f"the embedding is not multiplied by its scale {spec.scale:.6g}",
            Fix(f"multiply the embedding by {spec.scale:.6g}"),
            spec=lambda spec: replace(spec, scale=None),
        )
    root = spec.hidden_dim**0.5
    if spec.scale is None or abs(spec.scale - root) > 1e-3 * root:
        yield Change(
            "embedding_scale",
            f"the embedding is multiplied by the square root of {spec.hidden_dim}, {root:.6g}",
            Fix("do not scale the embedding" if spec.scale is None else f"multiply the embedding by {spec.scale:.6g}"),
            spec=lambda spec: replace(spec, scale=root),
        )
    for shift in (1, -1):
        yield Change(
            "tokens_permuted",
            f"each token's row is that of id {shift:+d}",
            Fix(f"look up the ids themselves, not {shift:+d}"),
            steps={"id_shift": shift},
        )
    if spec.learned_positions is not None:
        yield from _positions()
    if spec.token_types is not None:
        yield Change(
            "weight_missing",
            "token types are not added",
            Fix("add the row of type 0"),
            steps={"adds_token_types": False},
        )
    if spec.norm is not None:
        yield Change(
            "norm_gain_missing", "the embedding is not normalised", Fix("apply the norm"), steps={"norms": False}
        )


def _positions() -> Iterator[Change]:
    for shift in (1, -1, 2, -2, 32):
        yield Change(
            "position_offset",
            f"learned positions are off by {shift:+d}",
            Fix(f"take the positions {-shift:+d}"),
            steps={"position_shift": shift},
        )
    yield Change("weight_missing", "learned positions are not added", Fix("add them"), steps={"adds_positions": False})


def head(bench: Bench) -> Iterator[Change]:
    """What may be wrong with a language-model head."""
    spec = bench.call.spec
    if not isinstance(spec, LMHeadSpec):
        return
    if spec.logit_scale is not None:
        own = spec.logit_scale
        for value, says in ((None, "not multiplied by their scale"), (1 / own, "divided by their scale")):
            yield Change(
                "logits_scale",
                f"the logits are {says} {own:.6g}",
                Fix(f"multiply the logits by {own:.6g}"),
                spec=partial(_with, logit_scale=value),
            )
    yield from caps(bench, "logits", spec.logit_softcap)


def _with(spec: Any, **changes: Any) -> Any:
    return replace(spec, **changes)
