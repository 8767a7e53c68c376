# SPDX-License-Identifier: Apache-2.0
"""Self-attention over the tokens of one call and the cache before them.

T tokens of the call, P positions before it, S = P + T, D hidden, H query heads, K key/value heads, G = H / K,
E head dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.analysis.mathematics.attention_steps import AttentionSteps
from tttdebug.analysis.mathematics.norm import norm
from tttdebug.analysis.mathematics.rotary import rotate

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.analysis.module_call import KeysValues
    from tttdebug.specs import AttentionSpec

HIDDEN = -1e9
"""The score of a key that a query must not see: finite, so that a query that sees none reads all alike."""


@dataclass(frozen=True)
class Heads:
    """Queries [H, T, E], and keys and values [K, S, E] with those of the cache, all turned by their positions."""

    queries_HTE: torch.Tensor
    keys_KSE: torch.Tensor
    values_KSE: torch.Tensor


def attention(
    spec: AttentionSpec,
    arithmetic: Arithmetic,
    x_TD: torch.Tensor,
    positions_T: torch.Tensor,
    past: KeysValues | None,
    steps: AttentionSteps = AttentionSteps(),
) -> torch.Tensor:
    """Hidden states [T, D] to hidden states [T, D]. Raises WeightsError for a missing weight."""
    heads = project(spec, arithmetic, x_TD, positions_T, past, steps)
    mixed_HTE = mix(spec, arithmetic, heads, positions_T, steps)
    return out_of_heads(spec, arithmetic, mixed_HTE, steps)


def project(
    spec: AttentionSpec,
    arithmetic: Arithmetic,
    x_TD: torch.Tensor,
    positions_T: torch.Tensor,
    past: KeysValues | None,
    steps: AttentionSteps,
) -> Heads:
    """Queries, keys and values as the scores and the mixture read them."""
    import torch

    def heads(part: str) -> torch.Tensor:
        out_TN = arithmetic.linear(x_TD, f"w{part}", f"b{part}" if spec.qkv_bias else None)
        return out_TN.unflatten(-1, (-1, spec.head_dim)).transpose(0, 1)

    q_HTE, k_KTE, v_KTE = heads("q"), heads("k"), heads("v")
    if spec.qk_norm is not None:
        if steps.norms_queries:
            q_HTE = norm(spec.qk_norm, arithmetic.under("q_norm"), q_HTE)
        if steps.norms_keys:
            k_KTE = norm(spec.qk_norm, arithmetic.under("k_norm"), k_KTE)
    if spec.rope is not None:
        sign = -1 if steps.backwards else 1
        if steps.turns_queries:
            turned = rotate(spec.rope, spec.rotary_dim, q_HTE, sign * (positions_T + steps.query_shift))
            q_HTE = arithmetic.rounded(turned)
        if steps.turns_keys:
            turned = rotate(spec.rope, spec.rotary_dim, k_KTE, sign * (positions_T + steps.key_shift))
            k_KTE = arithmetic.rounded(turned)
    if past is not None:
        found = past if steps.edit_past is None else steps.edit_past(past)
        k_KTE = torch.cat([found.keys_KPE.float(), k_KTE], dim=1)
        v_KTE = torch.cat([found.values_KPE.float(), v_KTE], dim=1)
    if steps.own_written is not True:
        k_KTE, v_KTE = (_without_own(each_KSE, steps.own_written == "before") for each_KSE in (k_KTE, v_KTE))
    return Heads(q_HTE, k_KTE, v_KTE)


def mix(
    spec: AttentionSpec, arithmetic: Arithmetic, heads: Heads, positions_T: torch.Tensor, steps: AttentionSteps
) -> torch.Tensor:
    """Each query's mixture of the values it sees, [H, T, E]."""
    scores_HTS = spec.softmax_scale * by_group(heads.queries_HTE, heads.keys_KSE.transpose(1, 2), steps)
    if spec.logit_softcap is not None:
        scores_HTS = spec.logit_softcap * (scores_HTS / spec.logit_softcap).tanh()
    hidden_TS = unseen(spec, positions_T, heads.keys_KSE.shape[1], steps)
    if hidden_TS is not None:
        scores_HTS = scores_HTS.masked_fill(hidden_TS, HIDDEN)
    return arithmetic.rounded(by_group(arithmetic.rounded(_softmax(scores_HTS, steps)), heads.values_KSE, steps))


def out_of_heads(
    spec: AttentionSpec, arithmetic: Arithmetic, mixed_HTE: torch.Tensor, steps: AttentionSteps
) -> torch.Tensor:
    """The output projection of the heads side by side, [T, D]."""
    if steps.head_order is not None:
        mixed_HTE = mixed_HTE[list(steps.head_order)]
    return arithmetic.linear(mixed_HTE.transpose(0, 1).flatten(1), "wo", "bo" if spec.output_bias else None)


def by_group(queries_HTX: torch.Tensor, keys_KXY: torch.Tensor, steps: AttentionSteps) -> torch.Tensor:
    """The product of every query head with the key/value head that it reads, [H, T, Y]."""
    import torch

    heads, kv_heads = queries_HTX.shape[0], keys_KXY.shape[0]
    if steps.kv_of_query == "blocked":
        grouped = queries_HTX.unflatten(0, (kv_heads, -1)).flatten(1, 2) @ keys_KXY
        return grouped.unflatten(1, (heads // kv_heads, -1)).flatten(0, 1)
    if steps.kv_of_query == "tiled":
        return queries_HTX @ keys_KXY[torch.arange(heads) % kv_heads]
    return queries_HTX @ keys_KXY[list(steps.kv_of_query)]


def unseen(spec: AttentionSpec, positions_T: torch.Tensor, keys: int, steps: AttentionSteps) -> torch.Tensor | None:
    """Which keys a query must not see, [T, S]; None where it sees all."""
    import torch

    query_T1, key_S = positions_T[:, None], torch.arange(keys)
    hidden_TS = torch.zeros(len(positions_T), keys, dtype=torch.bool)
    if steps.mask == "strict":
        hidden_TS |= key_S >= query_T1
    elif spec.causal and steps.mask == "declared":
        hidden_TS |= key_S > query_T1
    if spec.sliding_window is not None and steps.mask != "none":
        hidden_TS |= key_S <= query_T1 - spec.sliding_window
    return hidden_TS if bool(hidden_TS.any()) else None


def _softmax(scores_HTS: torch.Tensor, steps: AttentionSteps) -> torch.Tensor:
    import torch

    if steps.exp is None and not steps.padding_keys:
        return scores_HTS.softmax(-1)
    if steps.padding_keys:  # n keys of score 0 weigh as much as one of score ln n
        of_padding = torch.full_like(scores_HTS[..., :1], math.log(steps.padding_keys))
        scores_HTS = torch.cat([scores_HTS, of_padding], dim=-1)
    below = scores_HTS - scores_HTS.amax(-1, keepdim=True)
    weights_HTS = below.exp() if steps.exp is None else steps.exp(below)
    weights_HTS = weights_HTS / weights_HTS.sum(-1, keepdim=True)
    return weights_HTS[..., :-1] if steps.padding_keys else weights_HTS


def _without_own(each_KSE: torch.Tensor, is_before: bool) -> torch.Tensor:
    """Nothing at the last position, and what belongs there nowhere, or in the place of the one before."""
    import torch

    kept_KSE = torch.cat([each_KSE[:, :-2], each_KSE[:, -1:]], dim=1) if is_before else each_KSE[:, :-1]
    return torch.cat([kept_KSE, torch.zeros_like(each_KSE[:, -1:])], dim=1)
