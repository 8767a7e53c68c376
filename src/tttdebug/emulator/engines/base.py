# SPDX-License-Identifier: Apache-2.0
"""What an engine is: the arithmetic behind the ops, on torch tensors, as a plan says.

Ops check arguments, choose kernels and move data; engines compute. Tensors that go in hold values of their format;
tensors that come out hold values of the plan's output format.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tttdebug.emulator.formats import Format
from tttdebug.emulator.plans import (
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


class Engine(Protocol):
    """Carries out plans. Stateless but for tables it may keep."""

    name: str

    def hold(self, x: Tensor, form: Format) -> Tensor:
        """Values as the host writes them into device memory."""

    def cast(self, x: Tensor, source: Format, target: Format) -> Tensor:
        """ttnn.typecast."""

    def repack(self, x: Tensor, form: Format) -> Tensor:
        """A copy through the packer, as a cache update makes it."""

    def unary(self, x: Tensor, plan: UnaryPlan) -> Tensor:
        """A function of the vector unit."""

    def binary(self, a: Tensor, b: Tensor | float, plan: BinaryPlan) -> Tensor:
        """Elementwise, with torch's broadcasting; `b` may be a scalar."""

    def matmul(self, a: Tensor, b: Tensor, bias: Tensor | None, plan: MatmulPlan) -> Tensor:
        """a @ b over the last two dimensions, plus bias, then the fused activation."""

    def reduce(self, x: Tensor, plan: ReducePlan) -> Tensor:
        """Over `plan.dims`, which stay with size 1."""

    def norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, plan: NormPlan
    ) -> Tensor:
        """RMS norm, or layer norm when the plan is centred, over the last dimension."""

    def softmax(self, x: Tensor, plan: SoftmaxPlan) -> Tensor:
        """Over the last dimension."""

    def attention(
        self, q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan
    ) -> Tensor:
        """Prefill; query position s sees keys 0…s when causal, the last `window` of them if there is one.

        `mask` is added to the scaled scores."""

    def attention_decode(
        self, q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan
    ) -> Tensor:
        """One query per user; user b sees keys 0…positions[b], the last `window` of them if there is one."""

    def rotate_pairs(self, x: Tensor, cos: Tensor, sin: Tensor, transform: Tensor, plan: RotaryPlan) -> Tensor:
        """x·cos + (x·transform)·sin, `transform` acting on each 32 columns."""

    def rotate_halves(self, x: Tensor, cos: Tensor, sin: Tensor, plan: RotaryPlan) -> Tensor:
        """x·cos + [−x₂, x₁]·sin, with x₁ and x₂ the halves of the last dimension."""
