# SPDX-License-Identifier: Apache-2.0
"""Sums, means and extrema as the matrix unit makes them, one dimension after the other, the last one first."""

from __future__ import annotations

from torch import Tensor

from tttdebug.emulator.engines import fpu, functions
from tttdebug.emulator.plans import ReducePlan


def reduce(x: Tensor, plan: ReducePlan) -> Tensor:
    """Over `plan.dims`, kept with size 1. Maxima are exact; `plan.scale` enters a sum through its bfloat16 scaler."""
    if plan.function != "sum":
        extremum = functions.REDUCTIONS[plan.function](x, plan.dims)
        return extremum if plan.scale == 1 else extremum * plan.scale
    scale = plan.scale
    for dim in sorted(plan.dims, reverse=True):
        if dim == x.ndim - 2:
            x = fpu.sum_columns(x, plan.kernel, scale)
        else:
            x = fpu.sum_rows(x.transpose(dim, -1), plan.kernel, scale).transpose(dim, -1)
        scale = 1.0
    return x
