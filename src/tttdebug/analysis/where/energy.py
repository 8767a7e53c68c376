# SPDX-License-Identifier: Apache-2.0
"""The energy of an error and of its reference, by token, channel, head, shard, user, block, tile and face.

T tokens, C channels, U units of one kind, G × H the grid of 16×16 faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tttdebug.errors import LayoutError

TILE, FACE = 32, 16
_ELEMENTS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Units:
    """A cut of a tensor into units, row by row of `grid`: in each the sums of squares of error and reference."""

    error_U: Tensor
    reference_U: Tensor
    count_U: Tensor
    grid: tuple[int, ...]

    @property
    def scale_U(self) -> Tensor:
        """The mean squared reference that an error is measured by: the unit's own and the median of all units'.

        So a unit counts neither because its own reference is small, nor because that of the others is.
        """
        mean_U = self.reference_U / self.count_U
        scale_U = mean_U + mean_U.median()
        return torch.where(scale_U > 0, scale_U, mean_U.mean())

    @property
    def relative_U(self) -> Tensor:
        """Mean squared error over `scale_U`; infinite where only the reference is zero."""
        error_U = self.error_U / self.count_U
        return torch.where(error_U > 0, error_U / self.scale_U, 0.0)


@dataclass(frozen=True)
class Energy:
    """Sums of squares over a tensor [T, C], in float64, each by token, by channel and by face.

    An element that is not finite on either side is in no sum; `nonfinite_port_T` and the others count it.
    """

    shape: tuple[int, int]
    error_T: Tensor
    reference_T: Tensor
    error_C: Tensor
    reference_C: Tensor
    error_GH: Tensor
    reference_GH: Tensor
    nonfinite_port_T: Tensor
    nonfinite_port_C: Tensor
    nonfinite_reference: int

    @property
    def error(self) -> float:
        return float(self.error_T.sum())

    @property
    def reference(self) -> float:
        return float(self.reference_T.sum())

    @property
    def nonfinite_port(self) -> int:
        return int(self.nonfinite_port_T.sum())

    def row_blocks(self, size: int = TILE) -> Units:
        """Blocks of `size` tokens, the last of what is left; of 1, the tokens."""
        return _blocks(self.error_T, self.reference_T, size, self.shape[1])

    def column_blocks(self, size: int = TILE) -> Units:
        """Blocks of `size` channels, the last of what is left; of 1 the channels, of the head dimension the heads."""
        return _blocks(self.error_C, self.reference_C, size, self.shape[0])

    def shards(self, count: int) -> Units:
        """The parts of a mesh that cuts the channels into `count`. Raises LayoutError where they do not divide."""
        return self.column_blocks(even_part(self.shape[1], count, "channels", "shards"))

    def users(self, count: int) -> Units:
        """The users whose tokens lie one after the other. Raises LayoutError where `count` does not divide them."""
        return self.row_blocks(even_part(self.shape[0], count, "tokens", "users"))

    def faces(self) -> Units:
        """The 16×16 faces, row by row."""
        return self._grid(self.error_GH, self.reference_GH, FACE)

    def _grid(self, error: Tensor, reference: Tensor, size: int) -> Units:
        rows, columns = (_sizes(extent, size) for extent in self.shape)
        count = rows[:, None] * columns[None]
        return Units(error.flatten(), reference.flatten(), count.flatten(), tuple(error.shape))


@torch.no_grad()
def energy_of(reference_TC: Tensor, port_TC: Tensor) -> Energy:
    """All sums, from one pass over both tensors [T, C] of any real dtype.

    Raises LayoutError where the shapes differ, are not [tokens, channels], or hold nothing.
    """
    if reference_TC.shape != port_TC.shape or reference_TC.ndim != 2 or reference_TC.numel() == 0:
        raise LayoutError(
            f"cannot look for the place of an error in a reference {list(reference_TC.shape)} and a port "
            f"{list(port_TC.shape)}; give both as [tokens, channels]"
        )
    tokens, channels = reference_TC.shape
    rows = max(FACE, _ELEMENTS_AT_ONCE // channels // FACE * FACE)
    parts = [_sums(reference_TC[at : at + rows], port_TC[at : at + rows]) for at in range(0, tokens, rows)]
    by_token, by_channel, by_face = zip(*parts, strict=True)
    error_T, reference_T, port_T, nonfinite_T = torch.cat(by_token, dim=1)
    error_C, reference_C, nonfinite_C = torch.stack(by_channel).sum(0)
    error_GH, reference_GH = torch.cat(by_face, dim=1)
    return Energy(
        (tokens, channels),
        *(error_T, reference_T, error_C, reference_C, error_GH, reference_GH),
        *(port_T.long(), nonfinite_C.long(), int(nonfinite_T.sum())),
    )


def even_part(extent: int, count: int, what: str, parts: str) -> int:
    """How much each of `count` equal parts holds. Raises LayoutError where they are not equal."""
    if count < 1 or extent % count:
        raise LayoutError(f"{extent} {what} are not {count} equal {parts}; give a number that divides them")
    return extent // count


def sum_blocks(x: Tensor, size: int, dim: int) -> Tensor:
    """Sums over blocks of `size` along one dim; the last block is what is left."""
    if size == 1:
        return x
    whole = x.shape[dim] // size
    blocks = x.narrow(dim, 0, whole * size).unflatten(dim, (whole, size)).sum(dim + 1)
    left = x.shape[dim] - whole * size
    return torch.cat((blocks, x.narrow(dim, whole * size, left).sum(dim, keepdim=True)), dim) if left else blocks


def _sums(reference_TC: Tensor, port_TC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of some rows: error, reference, non-finite of either side by token; by channel; the first two by face."""
    reference, port = reference_TC.double(), port_TC.double()
    known, given = reference.isfinite(), port.isfinite()
    error, both = (port - reference).square(), known & given
    energy = reference.square()
    if not bool(both.all()):
        error, energy = (torch.where(both, x, 0.0) for x in (error, energy))
    by_token = torch.stack((error.sum(1), energy.sum(1), (~given).sum(1), (~known).sum(1)))
    by_channel = torch.stack((error.sum(0), energy.sum(0), (~given).sum(0)))
    faces = torch.stack([sum_blocks(sum_blocks(x, FACE, 0), FACE, 1) for x in (error, energy)])
    return by_token.cpu(), by_channel.cpu(), faces.cpu()


def _blocks(error: Tensor, reference: Tensor, size: int, across: int) -> Units:
    count = _sizes(len(error), size) * across
    return Units(sum_blocks(error, size, 0), sum_blocks(reference, size, 0), count, (len(count),))


def _sizes(extent: int, size: int) -> Tensor:
    """The sizes of the blocks of an extent."""
    sizes = torch.full((-(-extent // size),), size, dtype=torch.float64)
    sizes[-1] = extent - (len(sizes) - 1) * size
    return sizes
