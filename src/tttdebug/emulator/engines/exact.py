# SPDX-License-Identifier: Apache-2.0
"""TTNN's numerics bit by bit: the kernels of the `fast` engine on units that round where the chip's do."""

from __future__ import annotations

from torch import Tensor

from tttdebug.emulator.engines.exact_attention import attend, attend_decode
from tttdebug.emulator.engines.exact_units import ExactUnits
from tttdebug.emulator.engines.fast import FastEngine
from tttdebug.emulator.kernel import Arch
from tttdebug.emulator.plans import AttentionPlan


class ExactEngine(FastEngine):
    """The engine that gives the chip's own numbers."""

    name = "exact"

    def __init__(self, arch: Arch) -> None:
        super().__init__(arch)
        self._exact = ExactUnits(arch)
        self._use(self._exact)

    def attention(
        self, q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan
    ) -> Tensor:
        return attend(q_BHSE, k_BKTE, v_BKTE, mask, plan, self._exact)

    def attention_decode(
        self, q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan
    ) -> Tensor:
        return attend_decode(q_BHE, k_BKTE, v_BKTE, positions, plan, self._exact)
