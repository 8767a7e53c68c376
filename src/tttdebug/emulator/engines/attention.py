# SPDX-License-Identifier: Apache-2.0
"""Scaled dot-product attention in the chip's formats, a whole row of scores at a time.

The chip walks over chunks of keys and rescales its running sums; here each row is normalised once, with the same
formats, operand cuts and exponential.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines import matrix_unit as fpu
from tttdebug.emulator.formats import BFLOAT16, FLOAT32
from tttdebug.emulator.plans import AttentionPlan, MatmulPlan

# B batch, H query heads, K key/value heads, G query heads per key/value head, S query positions, T key positions,
# E head dim; R = G·S query rows that share a key/value head


def attend(q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan) -> Tensor:
    """Prefill attention. `mask` broadcasts to [B, H, S, T] and is added to the scaled scores."""
    B, H, S, E = q_BHSE.shape
    K, T = k_BKTE.shape[1:3]
    scores = _scores(q_BHSE.reshape(B, K, -1, E), k_BKTE, plan).view(B, H, S, T)
    if mask is not None:
        scores = scores + mask.to(scores.dtype) / plan.scale
    if plan.causal:
        future_ST = torch.ones(S, T, dtype=torch.bool, device=q_BHSE.device).triu(1)
        scores = scores.masked_fill(future_ST, -torch.inf)
    return _weigh(scores.view(B, K, -1, T), v_BKTE, plan).view(B, H, S, E)


def attend_decode(q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan) -> Tensor:
    """Decode attention: one query per user, keys up to and including its position."""
    B, H, E = q_BHE.shape
    K, T = k_BKTE.shape[1], max(positions) + 1
    k_BKTE, v_BKTE = k_BKTE[:B, :, :T], v_BKTE[:B, :, :T]
    scores = _scores(q_BHE.reshape(B, K, -1, E), k_BKTE, plan)
    last_B = torch.tensor(positions, device=q_BHE.device)
    unseen_BT = torch.arange(T, device=q_BHE.device) > last_B[:, None]
    scores = scores.masked_fill(unseen_BT[:, None, None], -torch.inf)
    return _weigh(scores, v_BKTE, plan).reshape(B, H, E)


def _scores(q_BKRE: Tensor, k_BKTE: Tensor, plan: AttentionPlan) -> Tensor:
    form = FLOAT32 if plan.kernel.fp32_dest else BFLOAT16
    product = MatmulPlan(plan.kernel, "attention", 1, 1, False, BFLOAT16, BFLOAT16, form)
    return form.pack(fpu.matmul(q_BKRE, k_BKTE.mT, product, in_dest=False)).to(torch.float32)


def _weigh(scores_BKRT: Tensor, v_BKTE: Tensor, plan: AttentionPlan) -> Tensor:
    kernel = plan.kernel
    shifted = scores_BKRT - scores_BKRT.amax(-1, keepdim=True)
    if plan.approximate_exponential:
        weights = schraudolph(shifted, plan.scale)
    else:
        weights = torch.exp(shifted * plan.scale)
    weights = weights if kernel.fp32_dest else BFLOAT16.pack(weights)
    total = weights.to(torch.float32).sum(-1, keepdim=True)
    product = MatmulPlan(kernel, "attention", 1, 1, False, BFLOAT16, BFLOAT16, plan.output)
    unnormalised = BFLOAT16.pack(fpu.matmul(weights, v_BKTE, product, in_dest=False))
    return plan.output.pack(unnormalised.to(torch.float32) / total)


def schraudolph(x: Tensor, scale: float) -> Tensor:
    """The unit's approximate exp(x·scale): a linear function of x written into exponent and fraction, ±3 %.

    Valid up to x·scale ≈ 0.72; what underflows is negative and becomes 0. The result is a bfloat16 value in fp32.
    """
    slope = torch.tensor(369.329925537109375 * scale, dtype=torch.float32).item()
    linear = torch.nn.functional.relu(x.mul(slope).add_(32500.818359375))
    bits = linear.add_(0.5).clamp_(max=32767).to(torch.int32)
    return (bits << 15 & -65536).view(torch.float32)
