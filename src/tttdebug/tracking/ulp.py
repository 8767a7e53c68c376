# SPDX-License-Identifier: Apache-2.0
"""Distances between two tensors counted in steps of bfloat16, and exact percentiles of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

INFINITELY_FAR = 0xFFFF
"""Stands for an infinite distance; finite and infinite bfloat16 values are at most 65,280 steps apart."""


def ulp_distances_(pair_2N: Tensor) -> Tensor:
    """How many bfloat16 values lie between `pair[0]` and `pair[1]`: int32, shape (N,).

    `pair` is bfloat16. Its bits, as a signed magnitude, count the values of bfloat16 in order, so a distance is the
    difference of two such counts: neighbours are 1 apart, −0 and +0 are 0 apart, a sign flip goes through zero.
    A distance to NaN means nothing; the caller marks it with `INFINITELY_FAR`. Overwrites `pair`.
    """
    bits = pair_2N.view(torch.int16)
    sign = bits >> 15
    ordered_2N = bits.bitwise_and_(0x7FFF).bitwise_xor_(sign).sub_(sign)
    return ordered_2N[0].to(torch.int32).sub_(ordered_2N[1]).abs_()


def counted(counts: Tensor, values_N: Tensor) -> Tensor:
    """`counts`, a histogram of non-negative integers, after `values`; it is as long as the greatest value needs."""
    seen = torch.bincount(values_N)
    if len(seen) > len(counts):
        counts, seen = seen, counts
    counts[: len(seen)] += seen
    return counts


def ulp_percentiles(counts: np.ndarray, *percents: float) -> tuple[float, ...]:
    """For each of `percents` the smallest distance that at least so many per cent of all elements do not exceed.

    Exact (nearest rank, no interpolation); `inf` where the rank falls on a pair that is infinitely far.
    """
    cumulative = np.cumsum(counts)
    ranks = [max(1, math.ceil(cumulative[-1] * percent / 100)) for percent in percents]
    distances = np.searchsorted(cumulative, ranks).tolist()
    return tuple(math.inf if distance == INFINITELY_FAR else float(distance) for distance in distances)
