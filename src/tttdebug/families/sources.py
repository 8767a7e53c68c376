# SPDX-License-Identifier: Apache-2.0
"""Where a weight of the port lies in the reference's state dict: a value per way in which checkpoints keep weights.

Each names a tensor and gives a view of it; what is written to the view is in the tensor. As a matrix the view is in
torch's layout [out, in].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

AnySource = TypeVar("AnySource", bound="Source")


@dataclass(frozen=True)
class Source:
    """The whole tensor of that name. `{i}` in the name stands for the layer number."""

    name: str

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """The part of the tensor that is meant."""
        return tensor

    def matrix(self, tensor: torch.Tensor) -> torch.Tensor:
        """That part in the shape that the port wants, a copy where no view has that shape."""
        return self.view(tensor)

    def of_layer(self: AnySource, layer: int) -> AnySource:
        """The same in one layer."""
        return replace(self, name=self.name.replace("{i}", str(layer)))


@dataclass(frozen=True)
class Rows(Source):
    """Rows `start` to `stop` of a fused matrix, or those entries of its bias."""

    start: int
    stop: int

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor[self.start : self.stop]


@dataclass(frozen=True)
class HeadRows(Source):
    """The rows of one part, 0 to 2, of a fused matrix that has query, key and value of a head next to each other."""

    heads: int
    part: int

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view(self.heads, 3, -1, *tensor.shape[1:])[:, self.part]

    def matrix(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.view(tensor).flatten(0, 1)


@dataclass(frozen=True)
class NeighbourPairs(Source):
    """Query or key rows of a reference that rotates neighbours, in the order of one that rotates halves.

    Of the two rotary conventions the port's weights come in the second, Hugging Face's usual one. Keys in the cache of
    such a reference are in the first, as the port's are: its CachePair is not `interleaved`.
    """

    heads: int

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view(self.heads, -1, 2, *tensor.shape[1:]).transpose(1, 2)

    def matrix(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.view(tensor).flatten(0, 2)


@dataclass(frozen=True)
class Transposed(Source):
    """A matrix that the checkpoint keeps as [in, out], as GPT-2's Conv1D does."""

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.transpose(0, 1)


@dataclass(frozen=True)
class Columns(Source):
    """Columns `start` to `stop` of a fused matrix kept as [in, out]."""

    start: int
    stop: int

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor[:, self.start : self.stop].transpose(0, 1)


@dataclass(frozen=True)
class ExpertRows(Source):
    """Rows `start` to `stop` of one expert's matrix, out of all experts' matrices [experts, out, in]."""

    expert: int
    start: int
    stop: int

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor[self.expert, self.start : self.stop]


@dataclass(frozen=True)
class Reshaped(Source):
    """The tensor in another shape, one size of which may be −1: a convolution's kernel as a matrix, say."""

    shape: tuple[int, ...]

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view(self.shape)
