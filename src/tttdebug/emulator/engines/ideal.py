# SPDX-License-Identifier: Apache-2.0
"""Plain fp32 arithmetic without TTNN's formats: what is still wrong here is the algorithm, not the numbers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tttdebug.emulator.engines import functions
from tttdebug.emulator.formats import Format, IntegerFormat
from tttdebug.emulator.kernel import Arch
from tttdebug.emulator.plans import (
    Activation,
    AttentionPlan,
    BinaryPlan,
    MatmulPlan,
    NormPlan,
    ReducePlan,
    RotaryPlan,
    SoftmaxPlan,
    UnaryPlan,
)

# B batch, H query heads, K key/value heads, S query positions, T key positions, E head dim


class IdealEngine:
    """Every floating-point type is held in fp32 and computed in fp32; plans' kernels are ignored."""

    name = "ideal"

    def __init__(self, arch: Arch) -> None:
        self.arch = arch

    def hold(self, x: Tensor, form: Format) -> Tensor:
        return form.quantise(x) if isinstance(form, IntegerFormat) else x.to(torch.float32)

    def cast(self, x: Tensor, source: Format, target: Format) -> Tensor:
        return self.hold(x, target)

    def repack(self, x: Tensor, form: Format) -> Tensor:
        return self.hold(x, form)

    def unary(self, x: Tensor, plan: UnaryPlan) -> Tensor:
        return self._activate(x, (plan.activation,))

    def binary(self, a: Tensor, b: Tensor | float, plan: BinaryPlan) -> Tensor:
        a = self._activate(a, plan.on_a)
        if isinstance(b, Tensor):
            b = self._activate(b, plan.on_b)
        return self._activate(functions.BINARY[plan.function](a, b), plan.after)

    def matmul(self, a: Tensor, b: Tensor, bias: Tensor | None, plan: MatmulPlan) -> Tensor:
        product = a @ b
        if bias is not None:
            product = product + bias
        return self._activate(product, (plan.activation,) if plan.activation else ())

    def reduce(self, x: Tensor, plan: ReducePlan) -> Tensor:
        reduced = functions.REDUCTIONS[plan.function](x, plan.dims)
        return reduced * plan.scale if plan.scale != 1 else reduced

    def norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, plan: NormPlan
    ) -> Tensor:
        if residual is not None:
            x = x + residual
        if plan.centred:
            x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + plan.epsilon)
        if weight is not None:
            x = x * weight
        return x if bias is None else x + bias

    def softmax(self, x: Tensor, plan: SoftmaxPlan) -> Tensor:
        return torch.softmax(x, -1)

    def attention(
        self, q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan
    ) -> Tensor:
        groups = q_BHSE.shape[1] // k_BKTE.shape[1]
        k_BHTE, v_BHTE = k_BKTE.repeat_interleave(groups, 1), v_BKTE.repeat_interleave(groups, 1)
        scores_BHST = q_BHSE @ k_BHTE.mT * plan.scale
        if plan.causal:
            everything = torch.ones(scores_BHST.shape[-2:], dtype=torch.bool, device=q_BHSE.device)
            unseen = everything.triu(1)
            if plan.window is not None:
                unseen |= everything.tril(-plan.window)
            scores_BHST = scores_BHST.masked_fill(unseen, -torch.inf)
        if mask is not None:
            scores_BHST = scores_BHST + mask
        return torch.softmax(scores_BHST, -1) @ v_BHTE

    def attention_decode(
        self, q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan
    ) -> Tensor:
        plan = replace(plan, causal=False)  # each user's keys end at that user's own position
        users = []
        for b, position in enumerate(positions):
            seen = slice(max(0, position + 1 - (plan.window or position + 1)), position + 1)
            users.append(
                self.attention(q_BHE[b, None, :, None], k_BKTE[b, None, :, seen], v_BKTE[b, None, :, seen], None, plan)
            )
        return torch.cat(users).squeeze(2)

    def rotate_pairs(self, x: Tensor, cos: Tensor, sin: Tensor, transform: Tensor, plan: RotaryPlan) -> Tensor:
        rotated = (x.unflatten(-1, (-1, transform.shape[-1])) @ transform).flatten(-2)
        return x * cos + rotated * sin

    def rotate_halves(self, x: Tensor, cos: Tensor, sin: Tensor, plan: RotaryPlan) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    def _activate(self, x: Tensor, activations: tuple[Activation, ...]) -> Tensor:
        for activation in activations:
            x = functions.UNARY[activation.name](x, *activation.parameters)
        return x
