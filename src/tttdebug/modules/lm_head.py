# SPDX-License-Identifier: Apache-2.0
"""The language-model head: hidden states to logits."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, Vector, WeightFormat
from tttdebug.specs import LMHeadSpec


class LMHead(TTModule[LMHeadSpec]):
    """[1, 1, S, D] to logits [1, 1, S, V], V the vocabulary with the checkpoint's own padding, if it has one.

    Weights: `weight` [V, D], the embedding's own where tied; `bias` [V] where the spec has one.
    """

    SPEC = LMHeadSpec
    KERNELS = ("li_lm_head",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kernel = self.hw_config.li_lm_head
        self.weight_on_device = self.place("weight", WeightFormat(Linear(), self.hw_config.lm_head, kernel))
        self.bias_on_device = (
            self.place("bias", WeightFormat(Vector(), self.hw_config.bias)) if self.spec.bias else None
        )

    def forward(self, x_11SD: Any) -> Any:
        ttnn, scale, cap = self.ttnn, self.spec.logit_scale, self.spec.logit_softcap
        logits_11SV = self.linear(x_11SD, self.weight_on_device, "li_lm_head", self.bias_on_device)
        if scale is not None:
            logits_11SV = ttnn.multiply(logits_11SV, scale)
        if cap is None:
            return logits_11SV
        return ttnn.multiply(ttnn.tanh(ttnn.multiply(logits_11SV, 1.0 / cap)), cap)
