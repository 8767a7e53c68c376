# SPDX-License-Identifier: Apache-2.0
"""Normalisation: `NormSpec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tttdebug.specs.cost import Cost, Workload
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.validation import Dim, Positive

NormType = Literal["rmsnorm", "layernorm"]


@dataclass(frozen=True, repr=False)
class NormSpec(ModuleSpec):
    """Normalisation over the last dimension.

    rmsnorm    x / sqrt(mean(x^2) + eps) * w
    layernorm  (x - mean(x)) / sqrt(var(x) + eps) * w
    With `unit_offset` the checkpoint holds w - 1 (Gemma); with `bias` a vector is added.
    """

    hidden_dim: Dim
    eps: Positive = 1e-5
    norm_type: NormType = "rmsnorm"
    unit_offset: bool = False
    bias: bool = False

    def _cost(self, workload: Workload) -> Cost:
        weights = self.hidden_dim * (2 if self.bias else 1)
        return Cost(weight_count=weights, weights_read=weights, activation_count=2 * workload.tokens * self.hidden_dim)
