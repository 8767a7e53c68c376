# SPDX-License-Identifier: Apache-2.0
"""Token embedding: a row of a table for each token, and for a model without rotary positions one for each position."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.layer_norm import norm_class
from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Rows, WeightFormat
from tttdebug.modules.positions import PromptPositions, StepPositions, ids_on_device
from tttdebug.specs import EmbeddingSpec


class Embedding(TTModule[EmbeddingSpec]):
    """Token ids [1, S] to [1, 1, S, D]. Weight: `weight` [vocabulary, D]."""

    SPEC = EmbeddingSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weight_on_device = self.place("weight", WeightFormat(Rows(), self.hw_config.embedding))

    @staticmethod
    def not_computed(spec: EmbeddingSpec) -> dict[str, bool]:
        more = spec.learned_positions is not None or spec.token_types is not None or spec.norm is not None
        return {"learned_positions, token_types or norm (PositionedEmbedding does)": more}

    def forward(self, token_ids_1S: Any, positions: PromptPositions | StepPositions | None = None) -> Any:
        """Positions change nothing here: they belong to the attention."""
        rows_11SD = self.look_up(token_ids_1S, self.weight_on_device)
        return rows_11SD if self.spec.scale is None else self.ttnn.multiply(rows_11SD, self.spec.scale)

    def look_up(self, ids_1S: Any, table: Any) -> Any:
        """A row of the table for each id, [1, 1, S, D]."""
        dtype = getattr(self.ttnn, self.hw_config.activation)
        return self.ttnn.unsqueeze_to_4D(self.ttnn.embedding(ids_1S, table, layout=self.ttnn.TILE_LAYOUT, dtype=dtype))


class PositionedEmbedding(Embedding):
    """The same, plus a learned row for each position and for each token's type, then a norm, where the spec has them.

    Weights: besides, `positions` [positions, D], `token_types` [types, D], and those of the norm under `norm.`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spec, rows = self.spec, WeightFormat(Rows(), self.hw_config.embedding)
        self.positions = self.place("positions", rows) if spec.learned_positions is not None else None
        self.token_types = self.place("token_types", rows) if spec.token_types is not None else None
        here = (self.weights_of("norm"), self.device, self.hw_config)
        self.norm = None if spec.norm is None else norm_class(spec.norm)(spec.norm, *here)

    @staticmethod
    def not_computed(spec: EmbeddingSpec) -> dict[str, bool]:
        return {}

    def forward(
        self, token_ids_1S: Any, positions: PromptPositions | StepPositions | None = None, types_1S: Any = None
    ) -> Any:
        """Without `positions` the tokens stand from 0 on; without `types_1S`, ids as the tokens', all are of type 0."""
        ttnn, spec = self.ttnn, self.spec
        x_11SD = super().forward(token_ids_1S)
        if self.positions is not None and spec.learned_positions is not None:
            positions = positions or PromptPositions(self.device, token_ids_1S.shape[-1])
            x_11SD = ttnn.add(x_11SD, self.look_up(positions.ids(spec.learned_positions), self.positions))
        if self.token_types is not None:
            if types_1S is None:
                types_1S = self._all_of_type_zero(token_ids_1S.shape[-1])
            x_11SD = ttnn.add(x_11SD, self.look_up(types_1S, self.token_types))
        return x_11SD if self.norm is None else self.norm(x_11SD)

    def _all_of_type_zero(self, length: int) -> Any:
        import torch

        return ids_on_device(self.ttnn, self.device, torch.zeros(1, length))


def embedding_class(spec: EmbeddingSpec) -> type[Embedding]:
    """The class that computes this embedding."""
    return PositionedEmbedding if any(Embedding.not_computed(spec).values()) else Embedding
