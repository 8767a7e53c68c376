# SPDX-License-Identifier: Apache-2.0
"""Sums, means and extrema, one dimension after the other, the last one first.

bfloat16 and block formats are added by the matrix unit; fp32 tensors by the vector unit, in plain fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.engines import fpu, functions
from tttdebug.emulator.engines.units import Units
from tttdebug.emulator.plans import ReducePlan


def reduce(x: Tensor, plan: ReducePlan, units: Units) -> Tensor:
    """Over `plan.dims`, kept with size 1. Maxima are exact; `plan.scale` enters a sum through its bfloat16 scaler."""
    if plan.function != "sum":
        extremum = functions.REDUCTIONS[plan.function](fpu.to_source(x, fp32_dest=True), plan.dims)
        return extremum if plan.scale == 1 else extremum * plan.scale
    if x.dtype == torch.float32:
        return _sum_fp32(x, plan)
    scale = plan.scale
    for dim in sorted(plan.dims, reverse=True):
        if dim == x.ndim - 2:
            x = units.sum_columns(x, plan.kernel, scale)
        else:
            x = units.sum_rows(x.transpose(dim, -1), plan.kernel, scale).transpose(dim, -1)
        scale = 1.0
    return x


def _sum_fp32(x: Tensor, plan: ReducePlan) -> Tensor:
    for dim in sorted(plan.dims, reverse=True):
        along_last = x.transpose(dim, -1)
        tile = _sum_of_tiles(along_last)
        total = _sum_tile_column(tile) if dim == x.ndim - 2 else _sum_tile_row(tile)
        x = total[..., None].transpose(dim, -1)
    return x * torch.tensor(plan.scale, dtype=torch.float32) if plan.scale != 1 else x


def _sum_of_tiles(x: Tensor) -> Tensor:
    """The tiles along the last dimension added elementwise in ascending order: [..., 32]."""
    first, *others = torch.nn.functional.pad(x, (0, -x.shape[-1] % TILE)).split(TILE, -1)
    for tile in others:
        first = first + tile
    return first


def _sum_tile_row(x: Tensor) -> Tensor:
    """The 32 elements of a tile's row in the order in which the vector unit shifts and adds its lanes."""
    left, right = x[..., :16].unflatten(-1, (8, 2)), x[..., 16:].unflatten(-1, (8, 2))
    lanes = left[..., 0] + (left[..., 1] + (right[..., 0] + right[..., 1]))
    lanes = lanes + lanes.roll(4, -1)
    lanes = lanes + lanes.roll(2, -1)
    return lanes[..., 0] + lanes[..., 7]


def _sum_tile_column(x: Tensor) -> Tensor:
    """The 32 elements of a tile's column in the order in which the vector unit adds its rows."""
    rows = x.unflatten(-1, (2, 4, 4))
    halves = rows[..., 0, :] + (rows[..., 1, :] + (rows[..., 2, :] + rows[..., 3, :]))
    fours = halves[..., 0, :] + halves[..., 1, :]
    return (fours[..., 0] + fours[..., 1]) + (fours[..., 2] + fours[..., 3])
