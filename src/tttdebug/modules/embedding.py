# SPDX-License-Identifier: Apache-2.0
"""Token embedding: a row of a table for each token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Rows, WeightFormat

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import EmbeddingSpec


class Embedding(TTModule["EmbeddingSpec"]):
    """Token ids [B, S] to [1, B, S, D]. Weight: `weight` [vocabulary, D]."""

    def __init__(
        self,
        spec: EmbeddingSpec,
        weights: Mapping[str, torch.Tensor],
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
    ) -> None:
        super().__init__(spec, weights, device, hw_config)
        self.weight = self.place("weight", WeightFormat(Rows(), self.hw_config.embedding))

    def forward(self, token_ids_BS: Any) -> Any:
        rows_BSD = self.ttnn.embedding(
            token_ids_BS, self.weight, layout=self.ttnn.TILE_LAYOUT, dtype=getattr(self.ttnn, self.hw_config.activation)
        )
        rows_1BSD = self.ttnn.unsqueeze_to_4D(rows_BSD)
        if self.spec.scale is None:
            return rows_1BSD
        return self.ttnn.multiply(rows_1BSD, self.spec.scale)
