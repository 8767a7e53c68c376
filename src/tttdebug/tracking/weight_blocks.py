# SPDX-License-Identifier: Apache-2.0
"""Blocks of a weight that stand in another order, or that are wrong while the rest is right.

N blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.tracking.blocks import TILE, ranges

if TYPE_CHECKING:
    import torch

ALIKE = 0.2
"""Up to this rel_l2 two weights are one and the same in some number format: bfloat4_b costs about 0.12, and unrelated
weights are at 1.4."""
_SHARDS = (2, 4, 8)
_AT_MOST = 0.5  # of a weight's blocks may be wrong for the rest to say anything


@dataclass(frozen=True)
class MovedBlocks:
    """Equal blocks along a dimension, and which of the right weight's stands at each place."""

    dim: int
    dims: int
    order: tuple[int, ...]
    are_heads: bool

    def __str__(self) -> str:
        what = "heads" if self.are_heads else f"the {len(self.order)} blocks"
        side = ("output", "input")[self.dim] if self.dims == 2 else "only"
        is_reversed = self.order == tuple(reversed(range(len(self.order))))
        named = "reversed" if is_reversed else f"in the order {', '.join(map(str, self.order[:16]))}"
        return f"{what} along the {side} dimension are {named}"


def moved_blocks(held: torch.Tensor, right: torch.Tensor, head_dim: int) -> MovedBlocks | None:
    """The order in which blocks of the right weight stand: heads of that dimension, or shards; None where in none.

    Both are in the reference's layout and of one shape. What shards explain of a weight that reads heads, they do.
    """
    for dim in range(right.ndim):
        size = right.shape[dim]
        heads = [size // head_dim] if head_dim and size % head_dim == 0 else []
        counts = (*heads, *_SHARDS) if dim == 0 else (*_SHARDS, *heads)
        for count in counts:
            if count < 2 or size % count:
                continue
            order = _order(held, right, dim, count)
            if order is not None:
                are_heads = count in heads and (dim == 0 or count not in _SHARDS)
                return MovedBlocks(dim, right.ndim, order, are_heads)
    return None


def wrong_part(held: torch.Tensor, right: torch.Tensor) -> str:
    """Which blocks of 32 rows or columns of a matrix are wrong, or tiles where both are few; "" where most are."""
    if right.ndim != 2:
        return ""
    wrong = {what: _wrong(held, right, dim) for dim, what in enumerate(("rows", "columns"))}
    few = {
        what: starts
        for (what, starts), size in zip(wrong.items(), right.shape, strict=True)
        if 0 < len(starts) <= _AT_MOST * -(-size // TILE)
    }
    if not few:
        return ""
    places = [f"{what} {ranges(few[what], right.shape[dim])}" for dim, what in enumerate(wrong) if what in few]
    there = held
    for dim, what in enumerate(wrong):
        if what in few:
            there = there.index_select(dim, _indices(few[what], right.shape[dim]))
    return f"{' of '.join(places)} are {'wrong' if bool(there.any()) else 'zeros'}"


def _wrong(held: torch.Tensor, right: torch.Tensor, dim: int) -> list[int]:
    """Where the blocks of 32 along a dimension begin that are no rounding of the right ones."""
    pieces = zip(held.split(TILE, dim), right.split(TILE, dim), strict=True)
    return [i * TILE for i, (own, meant) in enumerate(pieces) if float((own - meant).norm()) > ALIKE * meant.norm()]


def _indices(starts: list[int], size: int) -> torch.Tensor:
    import torch

    return torch.cat([torch.arange(start, min(start + TILE, size)) for start in starts])


def _order(held: torch.Tensor, right: torch.Tensor, dim: int, count: int) -> tuple[int, ...] | None:
    """Which block of the right weight stands at each place, or None where it is no other order of blocks."""
    import torch

    blocks = [torch.stack(side.chunk(count, dim)).flatten(1) for side in (held.float(), right.float())]
    norms = [side.norm(dim=1, keepdim=True).clamp_min(1e-30) for side in blocks]
    alike = (blocks[0] / norms[0]) @ (blocks[1] / norms[1]).T
    best, order = alike.max(dim=1)
    found = tuple(int(i) for i in order)
    if float(best.min()) < 1 - ALIKE**2 / 2 or sorted(found) != list(range(count)) or found == tuple(range(count)):
        return None
    return found
