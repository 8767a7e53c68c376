# SPDX-License-Identifier: Apache-2.0
"""Scaled dot-product attention as ttnn's kernels walk over it: chunks of keys, a running maximum, sums rescaled.

Three kernels. The streaming prefill (bfloat16 Dest) and the legacy one (fp32 Dest) add up whole tiles of exponentials
and sum each row at the end; decode sums the rows of each chunk. What is not modelled: how the matrix unit rounds single
products, and the spread of a decode cache over cores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.engines import fpu
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.matrix_product import matrix_product, stepwise_product
from tttdebug.emulator.formats import BFLOAT16, FLOAT32, Format
from tttdebug.emulator.plans import SINGLE_BLOCK, AttentionPlan, MatmulPlan
from tttdebug.emulator.rounding import to_bfloat16_ties_away, to_bfloat16_ties_even, to_bfloat16_truncated

# B batch, H query heads, K key/value heads, S query positions, T key positions, E head dim;
# G query heads per key/value head, R = S·G their query rows, C keys of a chunk

_HALF_TILE = 16  # decode packs up to this many query heads into half tiles, whose exponential is always approximate


def attend(q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan) -> Tensor:
    """Prefill attention. `mask` broadcasts to [B, H, S, T] and is added to the scaled scores."""
    B, H, S, E = q_BHSE.shape
    K, T = k_BKTE.shape[1:3]
    G = H // K
    q_BKRE = _rows(q_BHSE, K)
    mask_BKRT = None if mask is None else _rows(_scaled_mask(mask, plan).expand(B, H, S, T), K)
    queries_R1 = torch.arange(S, device=q_BHSE.device).repeat_interleave(G)[:, None]
    keys_T = torch.arange(T, device=q_BHSE.device)
    form = BFLOAT16 if plan.streaming else FLOAT32
    maximum = torch.full((B, K, S * G, 1), -torch.inf, device=q_BHSE.device)
    total = torch.empty((B, K, S * G, TILE), dtype=form.storage, device=q_BHSE.device)
    weighted = torch.empty_like(q_BKRE, dtype=torch.bfloat16)
    for start in range(0, T, plan.k_chunk):
        chunk, rows = slice(start, start + plan.k_chunk), slice(start * G if plan.causal else 0, None)
        scores = _product(q_BKRE[:, :, rows], k_BKTE[:, :, chunk].mT, form, plan).to(torch.float32)
        if mask_BKRT is not None:
            scores = _add_mask(scores, mask_BKRT[..., chunk], plan)
        if plan.causal:
            scores = scores.masked_fill_(_unseen(keys_T[chunk], queries_R1[rows], plan), -torch.inf)
        previous = maximum[:, :, rows]
        highest = torch.maximum(previous, fpu.max_rows(scores))
        weights = form.pack(_exponentials(scores, highest, plan))
        tiles, added = _sum_tiles(weights), _product(weights, v_BKTE[:, :, chunk], BFLOAT16, plan)
        if start > 0:
            factor = _correction(previous, highest, plan)
            tiles = _rescaled_total(total[:, :, rows], factor, tiles, plan)
            added = added + to_bfloat16(fpu.multiply(weighted[:, :, rows], factor, plan.kernel))
        maximum[:, :, rows], total[:, :, rows], weighted[:, :, rows] = highest, tiles, added
    out_BKRE = plan.output.pack(_normalised(weighted, fpu.sum_rows(total, plan.kernel), plan))
    return out_BKRE.view(B, K, S, G, E).transpose(2, 3).reshape(B, H, S, E)


def _rows(x_BHSN: Tensor, kv_heads: int) -> Tensor:
    """[B, H, S, N] as [B, K, R, N], the query rows of one key/value head in the order of their positions."""
    return x_BHSN.unflatten(1, (kv_heads, -1)).transpose(2, 3).flatten(2, 3)


def attend_decode(q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan) -> Tensor:
    """Decode attention: one query per user against its keys up to and including its position; −1 gives zeros."""
    B, H, E = q_BHE.shape
    K, kernel = k_BKTE.shape[1], plan.kernel
    q_BKRE = q_BHE.reshape(B, K, -1, E)
    last_B111 = torch.tensor(positions, device=q_BHE.device).view(B, 1, 1, 1)
    keys_T = torch.arange(k_BKTE.shape[2], device=q_BHE.device)
    half_tile = H <= _HALF_TILE and plan.causal
    maximum = torch.full((*q_BKRE.shape[:-1], 1), -torch.inf, device=q_BHE.device)
    total, weighted = torch.zeros_like(maximum, dtype=torch.bfloat16), torch.zeros_like(q_BKRE, dtype=torch.bfloat16)
    for start in range(0, max(positions) + 1, plan.k_chunk):
        k_BKCE, v_BKCE = (cache[:B, :, start : start + plan.k_chunk] for cache in (k_BKTE, v_BKTE))
        scores = _product(q_BKRE, k_BKCE.mT, BFLOAT16, plan).to(torch.float32)
        scores = scores.masked_fill_(_unseen(keys_T[start : start + plan.k_chunk], last_B111, plan), -torch.inf)
        previous, maximum = maximum, torch.maximum(maximum, fpu.max_rows(scores))
        weights = to_bfloat16(_exponentials(scores, maximum, plan, half_tile=half_tile))
        summed, added = to_bfloat16(fpu.sum_rows(weights, kernel)), _product(weights, v_BKCE, BFLOAT16, plan)
        if start > 0:
            factor = _correction(previous, maximum, plan)
            summed, added = (
                to_bfloat16(fpu.add(new, to_bfloat16(fpu.multiply(old, factor, kernel)), kernel))
                for old, new in ((total, summed), (weighted, added))
            )
        total, weighted = summed, added
    out_BHE = plan.output.pack(_normalised(weighted, total, plan)).view(B, H, E)
    return out_BHE.masked_fill(last_B111.view(B, 1, 1) < 0, 0)


def _unseen(keys: Tensor, last: Tensor, plan: AttentionPlan) -> Tensor:
    """Which keys are hidden from a query whose own position is `last`."""
    future = keys > last
    return future if plan.window is None else future | (keys <= last - plan.window)


def to_bfloat16(dest: Tensor) -> Tensor:
    """Dest packed into a bfloat16 buffer between steps."""
    return BFLOAT16.pack(dest)


def _product(a: Tensor, b: Tensor, form: Format, plan: AttentionPlan) -> Tensor:
    if not plan.kernel.fp32_dest:
        return form.pack(stepwise_product(a, b, plan.kernel.fidelity))
    product = MatmulPlan(plan.kernel, SINGLE_BLOCK, BFLOAT16, BFLOAT16, form)
    return form.pack(matrix_product(a, b, product))


def _scaled_mask(mask: Tensor, plan: AttentionPlan) -> Tensor:
    """The host divides the mask by the scale, which multiplies it again inside the exponential."""
    inverse = to_bfloat16_ties_even(torch.tensor(1 / plan.scale)).to(torch.float32)
    return to_bfloat16_ties_even(mask.to(torch.float32) * inverse.to(mask.device))


def _add_mask(scores: Tensor, mask: Tensor, plan: AttentionPlan) -> Tensor:
    if plan.streaming:
        return to_bfloat16_ties_even(scores + mask.to(torch.float32)).to(torch.float32)
    return torch.where(mask.isinf(), -torch.inf, fpu.add(scores, mask.nan_to_num(), plan.kernel))


def _exponentials(scores: Tensor, maximum: Tensor, plan: AttentionPlan, *, half_tile: bool = False) -> Tensor:
    """exp((scores − maximum) · scale) as Dest keeps it."""
    fp32 = plan.kernel.fp32_dest
    shifted = fpu.subtract(scores.clamp(min=-3e38), maximum.clamp(min=-3e38), plan.kernel)
    if half_tile or plan.approximate_exponential or (plan.streaming and plan.prefill):
        return _schraudolph(shifted, plan.scale, fp32_dest=fp32)
    if fp32:
        return torch.exp(shifted * plan.scale)
    return sfpu.exp_bf16(to_bfloat16_truncated(shifted * plan.scale).to(torch.float32))


def _schraudolph(x: Tensor, scale: float, *, fp32_dest: bool) -> Tensor:
    """The unit's approximate exp(x·scale), not clamped below: what underflows is negative, and the packer zeroes it."""
    slope = torch.tensor(sfpu.SCHRAUDOLPH_SLOPE * scale, dtype=torch.float32).item()
    linear = torch.nn.functional.relu(x * slope + sfpu.SCHRAUDOLPH_OFFSET)
    bits = linear.add_(0.5).clamp_(max=32767).to(torch.int32).bitwise_left_shift_(15)
    return (bits if fp32_dest else bits.bitwise_and_(-65536)).view(torch.float32)


def _sum_tiles(weights: Tensor) -> Tensor:
    """Tiles of 32 columns added elementwise, in the format of the weights: the packer accumulates them."""
    padded = torch.nn.functional.pad(weights, (0, -weights.shape[-1] % TILE))
    first, *others = padded.split(TILE, -1)
    for tile in others:
        first = first + tile
    return first


def _correction(old: Tensor, new: Tensor, plan: AttentionPlan) -> Tensor:
    """exp((old − new) · scale), by which what was summed under the old maximum shrinks; bfloat16."""
    scale = to_bfloat16_truncated(torch.tensor(plan.scale, dtype=torch.float32)).to(torch.float32).item()
    x = fpu.subtract(old.clamp(min=-3e38), new.clamp(min=-3e38), plan.kernel) * scale
    return to_bfloat16(torch.exp(x))


def _rescaled_total(total: Tensor, factor: Tensor, tiles: Tensor, plan: AttentionPlan) -> Tensor:
    """total · factor + tiles, added by the packer in bfloat16 (streaming) or by the matrix unit in fp32 (legacy)."""
    scaled = fpu.multiply(total, factor, plan.kernel)
    return tiles + to_bfloat16(scaled) if plan.streaming else fpu.add(tiles, scaled, plan.kernel)


def _normalised(weighted: Tensor, total: Tensor, plan: AttentionPlan) -> Tensor:
    """weighted / total, by a reciprocal that a bfloat16 Dest rounds, or truncates in approximate mode."""
    kernel = plan.kernel
    inverse = torch.reciprocal(fpu.to_source(total, fp32_dest=True).to(torch.float32))
    if not kernel.fp32_dest:
        inverse = (to_bfloat16_truncated if kernel.approx else to_bfloat16_ties_away)(inverse)
    elif not plan.prefill:
        inverse = to_bfloat16(inverse)
    return fpu.multiply(weighted, inverse, kernel)
