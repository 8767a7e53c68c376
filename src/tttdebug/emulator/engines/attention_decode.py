# SPDX-License-Identifier: Apache-2.0
"""Decode attention step by step: chunks of keys are spread over cores, and what these found is combined in a tree."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines import fpu
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.attention_steps import (
    Partial,
    accurate_exponential,
    bfloat16_scale,
    by_kv_head,
    correction,
    packed,
    schraudolph,
    unseen,
)
from tttdebug.emulator.engines.units import Units
from tttdebug.emulator.plans import AttentionPlan
from tttdebug.emulator.rounding import to_bfloat16_truncated

# B batch, H query heads, K key/value heads, G query heads per key/value head, S query positions, T key positions,
# E head dim, C keys of a chunk

_HALF_TILE = 16  # decode packs up to this many query heads into half tiles, whose exponential is always approximate


def attend_decode(
    q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan, units: Units
) -> Tensor:
    """Decode attention: one query per user against its keys up to and including its position; −1 gives zeros."""
    out_BHE = torch.zeros_like(q_BHE, dtype=plan.output.storage)
    for user, position in enumerate(positions):
        if position >= 0:
            k_KTE, v_KTE = (cache[user, :, : position + 1] for cache in (k_BKTE, v_BKTE))
            out_BHE[user] = _attend_user(q_BHE[user], k_KTE, v_KTE, plan, units)
    return out_BHE


def _attend_user(q_HE: Tensor, k_KTE: Tensor, v_KTE: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    """One user's query against the keys it sees: each core walks over its chunks, then cores are combined in pairs."""
    half_tile = q_HE.shape[0] <= _HALF_TILE and plan.causal
    q_KGE = q_HE.unflatten(0, (k_KTE.shape[0], -1))
    chunks = list(range(0, k_KTE.shape[1], plan.k_chunk))
    found: list[Partial | None] = []
    for starts in _chunks_of_cores(chunks, plan.cores_per_head):
        partial: Partial | None = None
        for start in starts:
            keys = slice(start, start + plan.k_chunk)
            chunk = (k_KTE[:, keys], v_KTE[:, keys], start, k_KTE.shape[1] - 1)
            partial = _decode_chunk(q_KGE, *chunk, partial, plan, units, half_tile)
        found.append(partial)
    distance = 1
    while distance < len(found):
        for at in range(0, len(found) - distance, 2 * distance):
            found[at] = _combined(found[at], found[at + distance], plan, units)
        distance *= 2
    result = found[0]
    if result is None:
        raise AssertionError("attention over no keys")
    kernel = plan.kernel
    inverse = sfpu.reciprocal(result.total.to(torch.float32), 2 if kernel.fp32_dest and not kernel.approx else 1)
    if kernel.approx and not kernel.fp32_dest:
        inverse = to_bfloat16_truncated(inverse)
    return plan.output.pack(units.multiply(result.weighted, packed(inverse), kernel)).flatten(0, 1)


def _chunks_of_cores(chunks: list[int], cores: int) -> list[list[int]]:
    """The chunks of each core in the order in which cores are combined; some have none when there are few chunks."""
    if cores > len(chunks):
        return [[]] * (cores - len(chunks)) + [[chunk] for chunk in chunks]
    share, extra = divmod(len(chunks), cores)
    ends = [(core + 1) * share + min(core + 1, extra) for core in range(cores)]
    return [chunks[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _decode_chunk(
    q_KGE: Tensor,
    k_KCE: Tensor,
    v_KCE: Tensor,
    start: int,
    last: int,
    old: Partial | None,
    plan: AttentionPlan,
    units: Units,
    half_tile: bool,
) -> Partial:
    """One chunk of keys, joined to what the same core found before."""
    kernel = plan.kernel
    scores = packed(by_kv_head(q_KGE, k_KCE.mT, kernel, units)).to(torch.float32)
    if plan.window is not None:
        keys_C = torch.arange(start, start + k_KCE.shape[1], device=k_KCE.device)
        scores = scores.masked_fill(unseen(keys_C, last, plan.window), -torch.inf)
    maximum = fpu.max_rows(scores)
    if old is not None:
        maximum = torch.maximum(maximum, old.maximum)
    weights = packed(_decode_weights(scores, maximum, plan, units, half_tile))
    total = packed(units.sum_rows(weights, kernel, half_tiles=half_tile))
    weighted = packed(by_kv_head(weights, v_KCE, kernel, units))
    if old is not None:
        factor = correction(old.maximum, maximum, plan, units)
        total = packed(units.add(total, packed(units.multiply(old.total, factor, kernel)), kernel))
        weighted = packed(units.add(packed(units.multiply(old.weighted, factor, kernel)), weighted, kernel))
    return Partial(maximum, total, weighted)


def _decode_weights(scores: Tensor, maximum: Tensor, plan: AttentionPlan, units: Units, half_tile: bool) -> Tensor:
    """exp((scores − maximum) · scale) as Dest keeps it."""
    fp32 = plan.kernel.fp32_dest
    shifted = units.subtract(scores, maximum, plan.kernel)
    if half_tile or plan.approximate_exponential:
        return schraudolph(shifted, plan.scale, fp32_dest=fp32)
    scaled = sfpu.multiply(shifted, plan.scale)
    return units.exponential(scaled if fp32 else to_bfloat16_truncated(scaled).to(torch.float32), plan.kernel)


def _combined(a: Partial | None, b: Partial | None, plan: AttentionPlan, units: Units) -> Partial | None:
    """What two cores found, on the vector unit but for the weighted values."""
    if a is None or b is None:
        return a or b
    maximum = torch.maximum(a.maximum, b.maximum)
    scale, kernel = bfloat16_scale(plan), plan.kernel
    totals, values = [], []
    for part in (a, b):
        factor = accurate_exponential(sfpu.multiply(sfpu.add(part.maximum, -maximum), scale), kernel)
        totals.append(to_bfloat16_truncated(sfpu.multiply(factor.to(torch.float32), part.total.to(torch.float32))))
        values.append(packed(units.multiply(part.weighted, factor, kernel)))
    total = to_bfloat16_truncated(sfpu.add(totals[0].to(torch.float32), totals[1].to(torch.float32)))
    return Partial(maximum, total, packed(units.add(values[0], values[1], kernel)))
