# SPDX-License-Identifier: Apache-2.0
"""Scaled dot-product attention, prefill and decode, step by step as ttnn's kernels walk over the keys.

The streaming prefill kernel (bfloat16 Dest) and the legacy one (fp32 Dest) walk over the keys of each chunk of queries;
decode spreads the chunks of keys over cores and combines what they found in a tree.
Every step was held against recordings of the real kernels: `tests/emulator/test_recordings.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.engines import fpu
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.units import Units
from tttdebug.emulator.formats import BFLOAT16, FLOAT32
from tttdebug.emulator.kernel import Kernel
from tttdebug.emulator.plans import SINGLE_BLOCK, AttentionPlan, MatmulPlan
from tttdebug.emulator.rounding import to_bfloat16_ties_away, to_bfloat16_ties_even, to_bfloat16_truncated

# B batch, H query heads, K key/value heads, G query heads per key/value head, S query positions, T key positions,
# E head dim, C keys of a chunk, N chunks of Q queries

_HALF_TILE = 16  # decode packs up to this many query heads into half tiles, whose exponential is always approximate
_DEST_TILES = 8  # that a bfloat16 Dest holds
_SUBBLOCKS = (
    (2, 4), (4, 2), (1, 8), (8, 1), (1, 7), (7, 1), (2, 3), (3, 2), (1, 6), (6, 1), (1, 5), (5, 1), (2, 2), (1, 4),
    (4, 1), (1, 3), (3, 1), (1, 2), (2, 1), (1, 1),
)  # fmt: skip


class Partial(NamedTuple):
    """What was found in some of the keys: the largest score, the sum of weights, the weighted values.

    The sum is one column, or in prefill the 32 columns of a tile that are added up at the end.
    """

    maximum: Tensor
    total: Tensor
    weighted: Tensor


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
            scores = _by_kv_head(q_BKGNQE[:, :, :, those], k_BKTE[:, :, keys].mT, plan.kernel, units)
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
    return _packed(units.multiply(found.weighted, inverse, plan.kernel))


def _prefill_weights(scores: Tensor, maximum: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    """exp((scores − maximum) · scale), bfloat16 in the streaming kernel, fp32 in the legacy one."""
    shifted = units.subtract(scores, maximum, plan.kernel)
    if plan.streaming:
        return _packed(_schraudolph(shifted, plan.scale, fp32_dest=False))
    if plan.approximate_exponential:
        return _schraudolph(shifted, plan.scale, fp32_dest=True)
    return units.exponential(sfpu.multiply(shifted, plan.scale), plan.kernel)


def _weighted_values(weights: Tensor, v_BKCE: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    """weights @ values, bfloat16.

    The streaming kernel starts on the first rows of tiles while it still makes the weights of the others: there each
    piece of the weights is multiplied as it comes, and the packer adds the pieces.
    """
    if not plan.streaming:
        return _packed(_by_kv_head(weights, v_BKCE, plan.kernel, units))
    height, width = _subblock(-(-plan.q_chunk // TILE), -(-plan.k_chunk // TILE))
    active = -(-weights.shape[-1] // TILE)
    width = next(w for w in range(min(width, active), 0, -1) if active % w == 0) * TILE
    early, late = weights[..., : height * TILE, :], weights[..., height * TILE :, :]
    pieces = [
        _packed(
            _by_kv_head(early[..., start : start + width], v_BKCE[..., start : start + width, :], plan.kernel, units)
        )
        for start in range(0, weights.shape[-1], width)
    ]
    total = pieces[0]
    for piece in pieces[1:]:
        total = to_bfloat16_ties_even(total.to(torch.float32) + piece.to(torch.float32))
    if not late.shape[-2]:
        return total
    return torch.cat([total, _packed(_by_kv_head(late, v_BKCE, plan.kernel, units))], -2)


def _subblock(q_tiles: int, k_tiles: int) -> tuple[int, int]:
    """How many rows of tiles the streaming kernel starts early, and how many tiles wide a piece of scores is."""
    width = next(w for h, w in _SUBBLOCKS if h * w <= _DEST_TILES and q_tiles % h == 0 and k_tiles % w == 0)
    return min(q_tiles, 2), width


def _joined_in_prefill(old: Partial, new: Partial, plan: AttentionPlan, units: Units) -> Partial:
    """What was found so far shrunk to the new maximum, and the new added."""
    factor = _correction(old.maximum, new.maximum, plan, units)
    weighted = _packed(units.multiply(old.weighted, factor, plan.kernel))
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
    return plan.output.pack(units.multiply(result.weighted, _packed(inverse), kernel)).flatten(0, 1)


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
    scores = _packed(_by_kv_head(q_KGE, k_KCE.mT, kernel, units)).to(torch.float32)
    if plan.window is not None:
        keys_C = torch.arange(start, start + k_KCE.shape[1], device=k_KCE.device)
        scores = scores.masked_fill(unseen(keys_C, last, plan.window), -torch.inf)
    maximum = fpu.max_rows(scores)
    if old is not None:
        maximum = torch.maximum(maximum, old.maximum)
    weights = _packed(_decode_weights(scores, maximum, plan, units, half_tile))
    total = _packed(units.sum_rows(weights, kernel, half_tiles=half_tile))
    weighted = _packed(_by_kv_head(weights, v_KCE, kernel, units))
    if old is not None:
        factor = _correction(old.maximum, maximum, plan, units)
        total = _packed(units.add(total, _packed(units.multiply(old.total, factor, kernel)), kernel))
        weighted = _packed(units.add(_packed(units.multiply(old.weighted, factor, kernel)), weighted, kernel))
    return Partial(maximum, total, weighted)


def _decode_weights(scores: Tensor, maximum: Tensor, plan: AttentionPlan, units: Units, half_tile: bool) -> Tensor:
    """exp((scores − maximum) · scale) as Dest keeps it."""
    fp32 = plan.kernel.fp32_dest
    shifted = units.subtract(scores, maximum, plan.kernel)
    if half_tile or plan.approximate_exponential:
        return _schraudolph(shifted, plan.scale, fp32_dest=fp32)
    scaled = sfpu.multiply(shifted, plan.scale)
    return units.exponential(scaled if fp32 else to_bfloat16_truncated(scaled).to(torch.float32), plan.kernel)


def _combined(a: Partial | None, b: Partial | None, plan: AttentionPlan, units: Units) -> Partial | None:
    """What two cores found, on the vector unit but for the weighted values."""
    if a is None or b is None:
        return a or b
    maximum = torch.maximum(a.maximum, b.maximum)
    scale, kernel = _bfloat16_scale(plan), plan.kernel
    totals, values = [], []
    for part in (a, b):
        factor = _accurate_exponential(sfpu.multiply(sfpu.add(part.maximum, -maximum), scale), kernel)
        totals.append(to_bfloat16_truncated(sfpu.multiply(factor.to(torch.float32), part.total.to(torch.float32))))
        values.append(_packed(units.multiply(part.weighted, factor, kernel)))
    total = to_bfloat16_truncated(sfpu.add(totals[0].to(torch.float32), totals[1].to(torch.float32)))
    return Partial(maximum, total, _packed(units.add(values[0], values[1], kernel)))


def unseen(keys: Tensor, last: Tensor | int, window: int | None) -> Tensor:
    """Which keys are hidden from a query whose own position is `last`."""
    future = keys > last
    return future if window is None else future | (keys <= last - window)


def _by_kv_head(a: Tensor, b: Tensor, kernel: Kernel, units: Units) -> Tensor:
    """[..., G, S, n] or [..., G, n] rows of each key/value head times that head's matrix, as Dest keeps it."""
    heads = b.flatten(0, -3)
    rows = a.reshape(heads.shape[0], -1, a.shape[-1])
    plan = MatmulPlan(kernel, SINGLE_BLOCK, BFLOAT16, BFLOAT16, FLOAT32)
    return units.matrix_product(rows, heads, plan).view(*a.shape[:-1], b.shape[-1])


def _packed(dest: Tensor) -> Tensor:
    """Dest packed into a bfloat16 buffer."""
    return BFLOAT16.pack(dest)


def _scaled_mask(mask: Tensor, plan: AttentionPlan) -> Tensor:
    """The host divides the mask by the scale, which multiplies it again inside the exponential."""
    inverse = to_bfloat16_ties_even(torch.tensor(1 / plan.scale)).to(torch.float32)
    return to_bfloat16_ties_even(mask.to(torch.float32) * inverse.to(mask.device))


def _add_mask(scores: Tensor, mask: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    if plan.streaming:
        return to_bfloat16_ties_even(scores + mask.to(torch.float32)).to(torch.float32)
    return units.add(scores, mask, plan.kernel)


def _schraudolph(x: Tensor, scale: float, *, fp32_dest: bool) -> Tensor:
    """The unit's approximate exp(x·scale), not clamped below: what underflows is negative, and the packer zeroes it."""
    slope = torch.tensor(sfpu.SCHRAUDOLPH_SLOPE * scale, dtype=torch.float32).item()
    linear = torch.nn.functional.relu(sfpu.fma(x, slope, sfpu.SCHRAUDOLPH_OFFSET))
    bits = linear.add_(0.5).clamp_(max=32767).to(torch.int32).bitwise_left_shift_(15)
    return (bits if fp32_dest else bits.bitwise_and_(-65536)).view(torch.float32)


def _bfloat16_scale(plan: AttentionPlan) -> float:
    return to_bfloat16_truncated(torch.tensor(plan.scale, dtype=torch.float32)).item()


def _accurate_exponential(x: Tensor, kernel: Kernel) -> Tensor:
    """exp, packed as bfloat16."""
    return _packed(sfpu.exp_fp32(x) if kernel.fp32_dest else sfpu.exp_bf16(x, 1.0017248))


def _correction(old: Tensor, new: Tensor, plan: AttentionPlan, units: Units) -> Tensor:
    """exp((old − new) · scale), by which what was summed under the old maximum shrinks; bfloat16 (C11)."""
    kernel = plan.kernel
    x = sfpu.multiply(units.subtract(old, new, kernel), _bfloat16_scale(plan))
    if plan.approximate_exponential:
        return _accurate_exponential(x, kernel)
    k = sfpu.nearest_away(sfpu.multiply(x, 1.44269504)).clamp(-127, 127)
    f = sfpu.fma(k.to(torch.float32), -0.69314718, x)
    coefficients: tuple[float, ...] = (0.50628367, 1.01508760, 0.99984879)
    if kernel.fp32_dest:
        coefficients = (0.041959440, 0.16792158, 0.49998366, 0.99996228, 1.00000015)
    y = sfpu.multiply(sfpu.horner(f, *coefficients), torch.ldexp(torch.ones_like(f), k.to(torch.float32)))
    return _packed(torch.where(k == -127, 0.0, y))
