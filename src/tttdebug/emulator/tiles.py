# SPDX-License-Identifier: Apache-2.0
"""How a tile lies in memory: 32×32 elements as four faces of 16×16, upper left and right, lower left and right."""

from __future__ import annotations

import torch
from torch import Tensor

TILE, FACE = 32, 16
FACES = (TILE // FACE) ** 2


def padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """x with its last two sizes filled up with zeros to multiples of these; x itself where they are."""
    if x.ndim < 2:
        x = x.reshape(1, -1)
    missing = (0, -x.shape[-1] % columns, 0, -x.shape[-2] % rows)
    return torch.nn.functional.pad(x, missing) if any(missing) else x


def to_faces(x: Tensor) -> Tensor:
    """[tiles, 4, 16, 16] of a tensor, tiles row by row of its last two dimensions."""
    x = padded(x, TILE, TILE)
    split = x.reshape(-1, x.shape[-2] // TILE, 2, FACE, x.shape[-1] // TILE, 2, FACE)
    return split.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, FACES, FACE, FACE)


def from_faces(faces: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor of that shape whose faces these are, without the padding."""
    rows, columns = (shape[-2] if len(shape) > 1 else 1), shape[-1]
    split = faces.reshape(-1, -(-rows // TILE), -(-columns // TILE), 2, 2, FACE, FACE).permute(0, 1, 3, 5, 2, 4, 6)
    whole = split.reshape(split.shape[0], -(-rows // TILE) * TILE, -(-columns // TILE) * TILE)
    return whole[:, :rows, :columns].reshape(shape)
