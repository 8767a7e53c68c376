# SPDX-License-Identifier: Apache-2.0
"""An image as a sequence: its patches projected to vectors, a class token before them, a learned vector a position.

C channels, P patches, D hidden, S positions padded to whole tiles, F numbers of a patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, Rows, WeightFormat
from tttdebug.modules.positions import TILE
from tttdebug.specs import PatchEmbeddingSpec

if TYPE_CHECKING:
    import torch


class PatchEmbedding(TTModule[PatchEmbeddingSpec]):
    """Patches [1, 1, S, F], as `patches` cuts them, to [1, 1, S, D].

    Weights: `weight` [D, F], `bias` [D], `class_token` [1, D], `positions` [1 + P, D]. All but the first depend on the
    position alone, so they are one table here, added in one step.
    """

    SPEC = PatchEmbeddingSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hw = self.hw_config
        self.projection = self.place("weight", WeightFormat(Linear(), hw.embedding, hw.li_embedding))
        self.added = self.ttnn.from_torch(
            self._added_SD()[None, None],
            dtype=getattr(self.ttnn, hw.embedding),
            layout=self.ttnn.TILE_LAYOUT,
            device=self.device,
        )
        for name in self.shapes().keys() - {"weight"}:
            self.weight_formats[name] = WeightFormat(Rows(), hw.embedding)

    def forward(self, patches_11SF: Any) -> Any:
        return self.ttnn.add(self.linear(patches_11SF, self.projection, "li_embedding"), self.added)

    def patches(self, image_CHW: torch.Tensor) -> Any:
        """The image cut into patches, on the device, row by row; the class token's place and the padding are zeros."""
        import torch

        size = self.spec.patch_size
        patches_PF = torch.nn.functional.unfold(image_CHW[None].float(), size, stride=size)[0].T
        rows_SF = torch.nn.functional.pad(patches_PF, (0, 0, int(self.spec.class_token), self._padding()))
        return self.ttnn.from_torch(
            rows_SF[None, None],
            dtype=getattr(self.ttnn, self.hw_config.activation),
            layout=self.ttnn.TILE_LAYOUT,
            device=self.device,
        )

    def _padding(self) -> int:
        return -self.spec.learned_positions % TILE

    def _added_SD(self) -> torch.Tensor:
        """What each position gets besides its patch: its learned vector, and the class token or a bias."""
        import torch

        added = self.weight("positions").clone()
        first_patch = int(self.spec.class_token)
        if self.spec.class_token:
            added[:1] += self.weight("class_token")
        if self.spec.bias:
            added[first_patch:] += self.weight("bias")
        return torch.nn.functional.pad(added, (0, 0, 0, self._padding()))
