# SPDX-License-Identifier: Apache-2.0
"""Self-attention over the tokens of one call and the cache before them.

T tokens of the call, R of them that are asked for, P positions before it, S = P + T keys, D hidden, H query heads,
K key/value heads, E head dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.analysis.mathematics.attention_steps import AttentionSteps
from tttdebug.analysis.mathematics.norm import norm
from tttdebug.analysis.mathematics.rotary import rotate
from tttdebug.analysis.module_call import KeysValues

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.specs import AttentionSpec

HIDDEN = -1e9
"""The score of a key that a query must not see: finite, so that a query that sees none reads all alike."""


@dataclass(frozen=True)
class Heads:
    """Queries [H, R, E], and keys and values [K, S, E] with those of the cache, all turned by their positions."""

    queries_HRE: torch.Tensor
    keys_KSE: torch.Tensor
    values_KSE: torch.Tensor


def attention(
    spec: AttentionSpec,
    arithmetic: Arithmetic,
    positions_T: torch.Tensor,
    past: KeysValues | None,
    steps: AttentionSteps,
) -> torch.Tensor:
    """The input that the arithmetic remembers, [T, D], to hidden states of the R tokens that are asked for, [R, D].

    Raises WeightsError for a missing weight.
    """
    positions_T = positions_T + steps.step_at
    heads = project(spec, arithmetic, positions_T, past, steps)
    mixed_HRE = mix(spec, arithmetic, heads, arithmetic.memory.asked(positions_T), steps)
    return out_of_heads(spec, arithmetic, mixed_HRE, steps)


def project(
    spec: AttentionSpec,
    arithmetic: Arithmetic,
    positions_T: torch.Tensor,
    past: KeysValues | None,
    steps: AttentionSteps,
) -> Heads:
    """Queries, keys and values as the scores and the mixture read them; queries of the tokens that are asked for."""
    import torch

    memory = arithmetic.memory

    def heads(part: str) -> torch.Tensor:
        x_TD = memory.asked_TD if part == "q" else memory.input_TD
        out_TN = arithmetic.linear(x_TD, f"w{part}", f"b{part}" if spec.qkv_bias else None)
        return out_TN.unflatten(-1, (-1, spec.head_dim)).transpose(0, 1)

    q_HRE, k_KTE, v_KTE = heads("q"), heads("k"), heads("v")
    if spec.qk_norm is not None:
        if steps.norms_queries:
            q_HRE = norm(spec.qk_norm, arithmetic.under("q_norm"), q_HRE)
        if steps.norms_keys:
            k_KTE = norm(spec.qk_norm, arithmetic.under("k_norm"), k_KTE)
    if spec.rope is not None:
        sign = -1 if steps.backwards else 1
        if steps.turns_queries:
            query_positions_R = sign * (memory.asked(positions_T) + steps.query_shift)
            q_HRE = rotate(spec.rope, spec.rotary_dim, q_HRE, query_positions_R, arithmetic)
        if steps.turns_keys:
            key_positions_T = sign * (positions_T + steps.key_shift)
            k_KTE = rotate(spec.rope, spec.rotary_dim, k_KTE, key_positions_T, arithmetic)
    if past is not None:
        found = past if steps.edit_past is None else steps.edit_past(past)
        before = found.keys_KPE.shape[1] + steps.step_at
        if steps.own_cached_as is not None:
            kept = steps.own_cached_as(KeysValues(k_KTE, v_KTE))
            k_KTE, v_KTE = kept.keys_KPE, kept.values_KPE
        k_KTE = torch.cat([_to_length(found.keys_KPE.float(), before), k_KTE], dim=1)
        v_KTE = torch.cat([_to_length(found.values_KPE.float(), before), v_KTE], dim=1)
    if steps.own_written is not True:
        held, is_before = steps.own_found, steps.own_written == "before"
        k_KTE = _without_own(k_KTE, None if held is None else held.keys_KPE, is_before)
        v_KTE = _without_own(v_KTE, None if held is None else held.values_KPE, is_before)
    if steps.behind is not None:
        k_KTE = torch.cat([k_KTE, steps.behind.keys_KPE.float()], dim=1)
        v_KTE = torch.cat([v_KTE, steps.behind.values_KPE.float()], dim=1)
    return Heads(q_HRE, k_KTE, v_KTE)


def mix(
    spec: AttentionSpec, arithmetic: Arithmetic, heads: Heads, positions_R: torch.Tensor, steps: AttentionSteps
) -> torch.Tensor:
    """Each query's mixture of the values it sees, [H, R, E]."""
    hidden_RS = unseen(spec, positions_R, heads.keys_KSE.shape[1], steps)
    if steps.kernel is not None:
        return arithmetic.rounded(steps.kernel.attend(heads, hidden_RS, spec))
    scores_HRS = spec.softmax_scale * by_group(heads.queries_HRE, heads.keys_KSE.transpose(1, 2), steps)
    if spec.logit_softcap is not None:
        scores_HRS = spec.logit_softcap * (scores_HRS / spec.logit_softcap).tanh()
    if hidden_RS is not None:
        scores_HRS = scores_HRS.masked_fill(hidden_RS, HIDDEN)
    return arithmetic.rounded(by_group(arithmetic.rounded(_softmax(scores_HRS, steps)), heads.values_KSE, steps))


def out_of_heads(
    spec: AttentionSpec, arithmetic: Arithmetic, mixed_HRE: torch.Tensor, steps: AttentionSteps
) -> torch.Tensor:
    """The output projection of the heads side by side, [R, D]."""
    if steps.head_order is not None:
        mixed_HRE = mixed_HRE[list(steps.head_order)]
    return arithmetic.linear(mixed_HRE.transpose(0, 1).flatten(1), "wo", "bo" if spec.output_bias else None)


def by_group(queries_HRX: torch.Tensor, keys_KXY: torch.Tensor, steps: AttentionSteps) -> torch.Tensor:
    """The product of every query head with the key/value head that it reads, [H, R, Y]."""
    import torch

    heads, kv_heads = queries_HRX.shape[0], keys_KXY.shape[0]
    if steps.kv_of_query == "blocked":
        grouped = queries_HRX.unflatten(0, (kv_heads, -1)).flatten(1, 2) @ keys_KXY
        return grouped.unflatten(1, (heads // kv_heads, -1)).flatten(0, 1)
    if steps.kv_of_query == "tiled":
        return queries_HRX @ keys_KXY[torch.arange(heads) % kv_heads]
    return queries_HRX @ keys_KXY[list(steps.kv_of_query)]


def unseen(spec: AttentionSpec, positions_R: torch.Tensor, keys: int, steps: AttentionSteps) -> torch.Tensor | None:
    """Which keys a query must not see, [R, S]; None where it sees all."""
    import torch

    query_R1, key_S = positions_R[:, None], torch.arange(keys)
    hidden_RS = torch.zeros(len(positions_R), keys, dtype=torch.bool)
    if spec.causal and steps.mask == "declared":
        behind = 0 if steps.behind is None else steps.behind.keys_KPE.shape[1]
        hidden_RS |= key_S > query_R1 + steps.mask_shift + behind
    if spec.sliding_window is not None and steps.mask != "none":
        hidden_RS |= key_S <= query_R1 - spec.sliding_window + steps.window_shift
    return hidden_RS if bool(hidden_RS.any()) else None


def _softmax(scores_HRS: torch.Tensor, steps: AttentionSteps) -> torch.Tensor:
    import torch

    if not steps.padding_keys:
        return scores_HRS.softmax(-1)
    # n keys of score 0 weigh as much as one of score ln n
    of_padding = torch.full_like(scores_HRS[..., :1], math.log(steps.padding_keys))
    return torch.cat([scores_HRS, of_padding], dim=-1).softmax(-1)[..., :-1]


def _without_own(each_KSE: torch.Tensor, found_KPE: torch.Tensor | None, is_before: bool) -> torch.Tensor:
    """Zeros or what is found at the last position; what belongs there is nowhere, or in the place of the one before."""
    import torch

    kept_KSE = torch.cat([each_KSE[:, :-2], each_KSE[:, -1:]], dim=1) if is_before else each_KSE[:, :-1]
    last_K1E = torch.zeros_like(each_KSE[:, -1:]) if found_KPE is None else found_KPE[:, -1:].float()
    return torch.cat([kept_KSE, last_K1E], dim=1)


def _to_length(kept_KPE: torch.Tensor, length: int) -> torch.Tensor:
    """The first positions, or all of them and zeros behind."""
    import torch

    return torch.nn.functional.pad(kept_KPE[:, :length], (0, 0, 0, max(0, length - kept_KPE.shape[1])))
