# SPDX-License-Identifier: Apache-2.0
"""Finding in which order parts stand that should stand in their own, and saying it.

N parts of each side, X what each is compared by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Order = tuple[int, ...]


def likeness(found_NX: torch.Tensor, meant_NX: torch.Tensor) -> torch.Tensor:
    """The cosine of every found part with every meant one, [N, N]; 0 where one is all zeros."""
    return _unit(found_NX) @ _unit(meant_NX).T


def best_order(likeness_NN: torch.Tensor) -> Order | None:
    """Which meant part each found part is, the most alike first; None where that is its own for all.

    Each part that is another's nearest while that is its own is chosen at once, which is the same as one after another.
    """
    import torch

    left_NN, here_N = likeness_NN.clone(), torch.arange(len(likeness_NN))
    order_N = torch.full_like(here_N, -1)
    while bool((order_N < 0).any()):
        meant_N, found_N = left_NN.argmax(1), left_NN.argmax(0)
        chosen_N = ((found_N[meant_N] == here_N) & (order_N < 0)).nonzero().flatten()
        if not len(chosen_N):  # several are alike to the bit
            found, meant = divmod(int(left_NN.argmax()), len(order_N))
            chosen_N, meant_N[found] = here_N[found : found + 1], meant
        order_N[chosen_N] = meant_N[chosen_N]
        left_NN[chosen_N], left_NN[:, meant_N[chosen_N]] = -2.0, -2.0  # below every cosine
    return None if torch.equal(order_N, here_N) else tuple(order_N.tolist())


def best_sources(likeness_NN: torch.Tensor) -> Order | None:
    """Which meant part each found part is most like, several perhaps the same; None where it is its own for all."""
    order = tuple(int(i) for i in likeness_NN.argmax(dim=-1))
    return None if order == tuple(range(len(order))) else order


def in_words(order: Sequence[int]) -> str:
    """An order in few words where it has some: reversed, rolled, two exchanged, in strides; else its numbers."""
    count, order = len(order), tuple(order)
    moved = [i for i in range(count) if order[i] != i]
    if len(moved) == 2 and order[moved[0]] == moved[1] and order[moved[1]] == moved[0]:
        return f"{moved[0]} and {moved[1]} exchanged"
    if order == tuple(reversed(range(count))):
        return "reversed"
    for shift in range(1, count):
        if order == tuple((i - shift) % count for i in range(count)):
            return f"moved on by {shift}"
    for stride in range(2, count):
        if count % stride == 0 and order == tuple(i for first in range(stride) for i in range(first, count, stride)):
            return f"in strides of {stride}: {_short(order)}"
    return _short(order)


def rows_in_order(order: Sequence[int], parts: int) -> _Reorder:
    """The function that brings equal parts of a weight's rows into that order."""
    return _Reorder(tuple(order), parts, 0)


def columns_in_order(order: Sequence[int], parts: int) -> _Reorder:
    """The function that brings equal parts of a weight's columns into that order."""
    return _Reorder(tuple(order), parts, -1)


class _Reorder:
    """Equal parts along one dimension, taken in another order."""

    def __init__(self, order: Order, parts: int, dim: int) -> None:
        self.order, self.parts, self.dim = order, parts, dim

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        import torch

        pieces = weight.chunk(self.parts, dim=self.dim)
        return torch.cat([pieces[i] for i in self.order], dim=self.dim)


def _unit(rows_NX: torch.Tensor) -> torch.Tensor:
    return rows_NX / rows_NX.norm(dim=-1, keepdim=True).clamp_min(1e-30)


def _short(order: Sequence[int]) -> str:
    return ", ".join(map(str, order[:12])) + (", …" if len(order) > 12 else "")
