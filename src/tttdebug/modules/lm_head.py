# SPDX-License-Identifier: Apache-2.0
"""The language-model head: hidden states to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, WeightFormat

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import LMHeadSpec


class LMHead(TTModule["LMHeadSpec"]):
    """[1, 1, S, D] to logits [1, 1, S, vocabulary].

    Weight: `weight` [vocabulary, D], the embedding's own where tied.
    """

    def __init__(
        self,
        spec: LMHeadSpec,
        weights: Mapping[str, torch.Tensor],
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
    ) -> None:
        super().__init__(spec, weights, device, hw_config)
        fidelity = self.hw_config.li_lm_head.math_fidelity
        self.weight = self.place("weight", WeightFormat(Linear(), self.hw_config.lm_head, fidelity))
        self.kernel = self.hw_config.li_lm_head.to_ttnn(self.ttnn)

    def forward(self, x_11SD: Any) -> Any:
        return self.ttnn.linear(x_11SD, self.weight, compute_kernel_config=self.kernel)
