# SPDX-License-Identifier: Apache-2.0
"""Prefill attention step by step as ttnn's kernels walk over the keys for each chunk of queries.

There are two: the streaming kernel (bfloat16 Dest) and the legacy one (fp32 Dest). Every step was held against
recordings of the real kernels: `tests/emulator/test_recordings.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.engines import fpu
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.attention_steps import Partial, by_kv_head, correction, packed, schraudolph, unseen
from tttdebug.emulator.engines.units import Units
from tttdebug.emulator.plans import AttentionPlan
from tttdebug.emulator.rounding import to_bfloat16_ties_away, to_bfloat16_ties_even, to_bfloat16_truncated

# B batch, H query heads, K key/value heads, G query heads per key/value head, S query positions, T key positions,
# E head dim, C keys of a chunk, N chunks of Q queries

_DEST_TILES = 8  # that a bfloat16 Dest holds
_SUBBLOCKS = (
    (2, 4), (4, 2), (1, 8), (8, 1), (1, 7), (7, 1), (2, 3), (3, 2), (1, 6), (6, 1), (1, 5), (5, 1), (2, 2), (1, 4),
    (4, 1), (1, 3), (3, 1), (1, 2), (2, 1), (1, 1),
)  # fmt: skip


def attend(
    q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan, units: Units
) -> Tensor:
    """Prefill attention. `mask` broadcasts to [B, H, S, T] and is added to the scaled scores."""
    kv_heads, S, T = k_BKTE.shape[1], q_BHSE.shape[2], k_BKTE.shape[2]
    q_BKGSE = q_BHSE.unflatten(1, (kv_heads, -1))
    if mask is not None:
        mask = _scaled_mask(mask, plan).expand(*q_BHSE.shape[:3], T).unflatten(1, (kv_heads, -1))
    whole = S - S % plan.q_chunk
    out = []
    for rows, height in ((slice(0, whole), plan.q_chunk), (slice(whole, S), S - whole)):
        if rows.start < rows.stop:
            q_BKGNQE = q_BKGSE[..., rows, :].unflatten(-2, (-1, height))
            chunks_mask = None if mask is None else mask[..., rows, :].unflatten(-2, (-1, height))
            chunks = _attend_chunks(q_BKGNQE, k_BKTE, v_BKTE, chunks_mask, rows.start, plan, units)
            out.append(chunks.flatten(-3, -2))
    return plan.output.pack(torch.cat(out, -2).flatten(1, 2))


def _attend_chunks(
    q_BKGNQE: Tensor,
    k_BKTE: Tensor,
    v_BKTE: Tensor,
    mask: Tensor | None,
    first_query: int,
    plan: AttentionPlan,
    units: Units,
) -> Tensor:
    """N chunks of Q queries, the first at position `first_query`, against the keys that each of them sees.

    Each takes its keys in the kernel's order; those that see equally many keys of a chunk take that step together.
    """
    N, Q, T = *q_BKGNQE.shape[3:5], k_BKTE.shape[2]
    queries_NQ1 = torch.arange(first_query, first_query + N * Q, device=q_BKGNQE.device).view(N, Q, 1)
    ends = [min(T, first_query + (n + 1) * Q) if plan.causal else T for n in range(N)]
    found: Partial | None = None
    for start in range(0, T, plan.k_chunk):
        stops = [min(start + plan.k_chunk, end) for end in ends]
        for stop in sorted({stop for stop in stops if stop > start}):
            those, keys = slice(stops.index(stop), N - stops[::-1].index(stop)), slice(start, stop)
            scores = by_kv_head(q_BKGNQE[:, :, :, those], k_BKTE[:, :, keys].mT, plan.kernel, units)
            if mask is not None:
                scores = _add_mask(scores, mask[:, :, :, those, :, keys], plan, units)
            if plan.causal:
                keys_C = torch.arange(start, stop, device=q_BKGNQE.device)
                scores = scores.masked_fill(unseen(keys_C, queries_NQ1[those], plan.window), -torch.inf)
            old = Partial(*(part[:, :, :, those] for part in found)) if found is not None and start > 0 else None
            new = _attend_keys(scores, v_BKTE[:, :, keys], old, plan, units)
            if those == slice(0, N):
                found = new
                continue
            if found is None:
                found = Partial(*(part.new_empty(*part.shape[:3], N, *part.shape[4:]) for part in new))
            for whole, part in zip(found, new, strict=True):
                whole[:, :, :, those] = part
    if found is None:
        raise AssertionError("attention over no keys")
    return _normalised(found, plan, units)


def _attend_keys(scores: Tensor, v_BKCE: Tensor, old: Partial | None, plan: AttentionPlan, units: Units) -> Partial:
    """A chunk of keys, joined to what was found before."""
    maximum = fpu.max_rows(scores)
    if old is not None:
        maximum = torch.maximum(maximum, old.maximum)
    weights = _prefill_weights(scores, maximum, plan, units)
    new = Partial(maximum, _sum_tiles(weights), _weighted_values(weights, v_BKCE, plan, units))
    return new if old is None else _joined_in_prefill(old, new, plan, units)


def _normalised(found: Partial, plan: AttentionPlan, units: Units) -> Tensor:
    """The weighted values over the sums of weights."""
    sums = units.sum_rows(found.total, plan.kernel)
    if plan.kernel.fp32_dest:
        inverse = sfpu.reciprocal(fpu.to_source(sums, fp32_dest=True), 1 if plan.kernel.approx else 2)
    elif plan.kernel.approx:
        inverse = to_bfloat16_truncated(sfpu.reciprocal(sums, 1))
    else:
        inverse = to_bfloat16_ties_away(sfpu.reciprocal(sums, 1, sfpu.RECIPROCAL_ROUNDED))
    return packed(units.multiply(found.weighted, inverse, plan.kernel))


def _prefill_weights(scores: Tensor, maximum: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    """exp((scores − maximum) · scale), bfloat16 in the streaming kernel, fp32 in the legacy one."""
    shifted = units.subtract(scores, maximum, plan.kernel)
    if plan.streaming:
        return packed(schraudolph(shifted, plan.scale, fp32_dest=False))
    if plan.approximate_exponential:
        return schraudolph(shifted, plan.scale, fp32_dest=True)
    return units.exponential(sfpu.multiply(shifted, plan.scale), plan.kernel)


def _weighted_values(weights: Tensor, v_BKCE: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    """weights @ values, bfloat16.

    The streaming kernel starts on the first rows of tiles while it still makes the weights of the others: there each
    piece of the weights is multiplied as it comes, and the packer adds the pieces.
    """
    if not plan.streaming:
        return packed(by_kv_head(weights, v_BKCE, plan.kernel, units))
    height, width = _subblock(-(-plan.q_chunk // TILE), -(-plan.k_chunk // TILE))
    active = -(-weights.shape[-1] // TILE)
    width = next(w for w in range(min(width, active), 0, -1) if active % w == 0) * TILE
    early, late = weights[..., : height * TILE, :], weights[..., height * TILE :, :]
    pieces = [
        packed(by_kv_head(early[..., start : start + width], v_BKCE[..., start : start + width, :], plan.kernel, units))
        for start in range(0, weights.shape[-1], width)
    ]
    total = pieces[0]
    for piece in pieces[1:]:
        total = to_bfloat16_ties_even(total.to(torch.float32) + piece.to(torch.float32))
    if not late.shape[-2]:
        return total
    return torch.cat([total, packed(by_kv_head(late, v_BKCE, plan.kernel, units))], -2)


def _subblock(q_tiles: int, k_tiles: int) -> tuple[int, int]:
    """How many rows of tiles the streaming kernel starts early, and how many tiles wide a piece of scores is."""
    width = next(w for h, w in _SUBBLOCKS if h * w <= _DEST_TILES and q_tiles % h == 0 and k_tiles % w == 0)
    return min(q_tiles, 2), width


def _joined_in_prefill(old: Partial, new: Partial, plan: AttentionPlan, units: Units) -> Partial:
    """What was found so far shrunk to the new maximum, and the new added."""
    factor = correction(old.maximum, new.maximum, plan, units)
    weighted = packed(units.multiply(old.weighted, factor, plan.kernel))
    weighted = to_bfloat16_ties_even(new.weighted.to(torch.float32) + weighted.to(torch.float32))
    shrunk = units.multiply(old.total, factor, plan.kernel)
    if plan.streaming:
        total = to_bfloat16_ties_even(new.total.to(torch.float32) + shrunk)
    else:
        total = units.add(new.total, shrunk, plan.kernel)
    return Partial(new.maximum, total, weighted)


def _sum_tiles(weights: Tensor) -> Tensor:
    """Tiles of 32 columns added elementwise by the packer: bfloat16 to even, or fp32."""
    first, *others = torch.nn.functional.pad(weights, (0, -weights.shape[-1] % TILE)).split(TILE, -1)
    for tile in others:
        first = (first.to(torch.float32) + tile.to(torch.float32)).to(weights.dtype)
    return first


def _scaled_mask(mask: Tensor, plan: AttentionPlan) -> Tensor:
    """The host divides the mask by the scale, which multiplies it again inside the exponential."""
    inverse = to_bfloat16_ties_even(torch.tensor(1 / plan.scale)).to(torch.float32)
    return to_bfloat16_ties_even(mask.to(torch.float32) * inverse.to(mask.device))


def _add_mask(scores: Tensor, mask: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    if plan.streaming:
        return to_bfloat16_ties_even(scores + mask.to(torch.float32)).to(torch.float32)
    return units.add(scores, mask, plan.kernel)
