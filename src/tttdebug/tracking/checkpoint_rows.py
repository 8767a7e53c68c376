# SPDX-License-Identifier: Apache-2.0
"""Finding where rows of a matrix come from in a checkpoint, whatever they were scaled or quantised by.

Every row of the checkpoint has a short sketch, a random projection of its direction; a few rows of a matrix are looked
up by theirs and then compared in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SKETCH = 24  # dimensions of a sketch
_ASKED = 24  # rows of a matrix that are looked up
_SAME_DIRECTION = 0.97  # of two rows that are one in some number format: bfloat4_b gives 0.993


@dataclass(frozen=True)
class Origin:
    """Where rows of a matrix come from: tensors of the checkpoint in the order of the rows, and of each the number of
    the lowest row that was found. `share` is the part of the rows that were looked up and found.
    """

    names: tuple[str, ...]
    first_rows: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class _Rows:
    """All rows of the checkpoint that are of one width."""

    sketches: torch.Tensor
    owners: Sequence[str]
    starts: Mapping[str, int]


class CheckpointRows:
    """The rows of a checkpoint's matrices, ready to be looked up."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        self._state = {name: tensor for name, tensor in state.items() if tensor.ndim == 2}
        self._of_width: dict[int, _Rows] = {}

    def origin_of(self, matrix: torch.Tensor) -> Origin | None:
        """Where the rows of `matrix` come from, None where most are of no known origin."""
        import torch

        rows = self._rows_of_width(matrix.shape[1])
        full = matrix.norm(dim=1).nonzero().flatten()  # rows of zeros are padding
        if rows is None or not len(full):
            return None
        asked = full[torch.linspace(0, len(full) - 1, min(len(full), _ASKED)).long()]
        nearest = (self._sketched(matrix[asked]) @ rows.sketches.T).argmax(dim=1).tolist()
        found: list[tuple[str, int]] = []
        for place, row in zip(asked.tolist(), nearest, strict=True):
            name = rows.owners[row]
            number = row - rows.starts[name]
            direction = torch.cosine_similarity(matrix[place], self._state[name][number].float(), dim=0)
            if float(direction) >= _SAME_DIRECTION:
                found.append((name, number))
        if 2 * len(found) < len(asked):
            return None
        names = tuple(dict.fromkeys(name for name, _ in found))
        first_rows = tuple(min(number for owner, number in found if owner == name) for name in names)
        return Origin(names, first_rows, len(found) / len(asked))

    def _rows_of_width(self, width: int) -> _Rows | None:
        import torch

        if width not in self._of_width:
            tensors = {name: tensor for name, tensor in self._state.items() if tensor.shape[1] == width}
            if not tensors:
                return None
            starts, owners, total = {}, [], 0
            for name, tensor in tensors.items():
                starts[name] = total
                owners += [name] * len(tensor)
                total += len(tensor)
            sketches = torch.cat([self._sketched(tensor.float()) for tensor in tensors.values()])
            self._of_width[width] = _Rows(sketches, owners, starts)
        return self._of_width[width]

    def _sketched(self, rows: torch.Tensor) -> torch.Tensor:
        import torch

        projection = torch.randn(rows.shape[1], _SKETCH, generator=torch.Generator().manual_seed(rows.shape[1]))
        sketch = rows @ projection
        return sketch / sketch.norm(dim=1, keepdim=True).clamp_min(1e-30)
