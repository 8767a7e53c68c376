# SPDX-License-Identifier: Apache-2.0
"""Where in a tensor the error sits: per token, by size, and element by element for the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

WORST_KEPT = 16
NOT_FINITE = 2047
"""The float64 exponent of inf and nan; 0 is that of zero, and any e between of numbers in [2^(e−1023), 2^(e−1022))."""
OCTAVES_SHOWN = 40
_BLOCK = 64


class WorstElement(NamedTuple):
    """One element: its index and what both sides hold there."""

    at: tuple[int, ...]
    reference: float
    port: float


@dataclass(frozen=True)
class HeadErrors:
    """The rel_l2 of each head of a cache at each position, `rel_l2[head][token]`, from `first_position` on.

    Of keys also in which of both rotary orders the port's were read, "interleaved" or "halves", and what the error is
    when they are read in the other one: `other_order` as `rel_l2`, and `other_order_rel_l2` of all together.
    """

    first_position: int
    rel_l2: tuple[tuple[float, ...], ...]
    read_as: str = ""
    other_order: tuple[tuple[float, ...], ...] = ()
    other_order_rel_l2: float = math.nan


class ShardError(NamedTuple):
    """The rel_l2 of what one device of a mesh holds."""

    device: int
    rel_l2: float


@dataclass(frozen=True)
class ErrorProfile:
    """What a plot of the error needs; plain numbers only.

    `error_counts[i]` elements have |t − r| in [`error_edges[i]`, `error_edges[i+1]`): the first bin starts at 0, the
    others are octaves, at most 40 of them. Errors that are not finite are in no bin. `heads` is of caches only,
    `shards` of outputs that are cut over the devices of a mesh.
    """

    token_rel_l2: tuple[float, ...] = ()
    token_pcc: tuple[float, ...] = ()
    error_edges: tuple[float, ...] = ()
    error_counts: tuple[int, ...] = ()
    worst: tuple[WorstElement, ...] = ()
    heads: HeadErrors | None = None
    shards: tuple[ShardError, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, without the parts that this record has not."""
        kept = {name: value for name, value in vars(self).items() if name not in ("heads", "shards")}
        if self.heads is not None:
            kept["heads"] = asdict(self.heads)
        if self.shards:
            kept["shards"] = [shard._asdict() for shard in self.shards]
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> ErrorProfile:
        """The profile that `to_json` gave this of."""
        heads, shards = kept.get("heads"), kept.get("shards", ())
        parts = {
            "worst": tuple(WorstElement(tuple(at), reference, port) for at, reference, port in kept["worst"]),
            "heads": None if heads is None else HeadErrors(**heads),
            "shards": tuple(ShardError(**shard) for shard in shards),
        }
        return cls(**{**kept, **parts})


class Greatest(NamedTuple):
    """The greatest keys seen so far, descending, with their positions; of equal keys the earliest are kept."""

    keys: Tensor
    positions: Tensor


def nothing_yet(device: torch.device) -> Greatest:
    """The state before the first chunk."""
    return Greatest(*torch.empty((2, 0), dtype=torch.int64, device=device))


def with_greatest(so_far: Greatest, keys_N: Tensor, offset: int, keep: int = WORST_KEPT) -> Greatest:
    """`so_far` after a chunk whose keys are `keys` and whose first element has position `offset`.

    Keys are the bits of |t − r| in float64, which order as the errors do, with inf above all numbers and NaN above inf.
    A chunk that holds nothing greater costs one maximum.
    """
    if len(so_far.keys) == keep:
        if keys_N.max() <= so_far.keys[-1]:
            return so_far
        candidates = (keys_N > so_far.keys[-1]).nonzero()[:, 0]
    else:
        candidates = _contenders(keys_N, keep)
    keys = torch.cat((so_far.keys, keys_N[candidates]))
    positions = torch.cat((so_far.positions, candidates + offset))
    order = keys.sort(descending=True, stable=True).indices[:keep]
    return Greatest(keys[order], positions[order])


def _contenders(keys_N: Tensor, keep: int) -> Tensor:
    """Positions, ascending, of the few keys among which the `keep` greatest are.

    At least `keep` keys reach the `keep`-th greatest maximum of a block, and only keys of fewer blocks exceed it: much
    cheaper than a selection from all keys.
    """
    whole_blocks = len(keys_N) // _BLOCK
    maxima = keys_N[: whole_blocks * _BLOCK].view(-1, _BLOCK).amax(-1) if whole_blocks >= keep else keys_N
    least = maxima.topk(min(keep, len(maxima))).values[-1]
    reaching = (keys_N >= least).nonzero()[:, 0]
    above = keys_N[reaching] > least
    return torch.cat((reaching[above], reaching[~above][:keep])).sort().values


def error_histogram(octave_counts: np.ndarray) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Edges and counts for plotting, from counts of the float64 exponents of |t − r|."""
    occupied = np.flatnonzero(octave_counts[1:NOT_FINITE]) + 1
    if len(occupied) == 0:
        return (0.0, math.ldexp(1.0, -126)), (int(octave_counts[0]),)
    last = int(occupied[-1])
    first = max(int(occupied[0]), last - OCTAVES_SHOWN + 1)
    edges = (0.0, *(math.ldexp(1.0, octave - 1023) for octave in range(first, last + 2)))
    counts = (int(octave_counts[:first].sum()), *(int(count) for count in octave_counts[first : last + 1]))
    return edges, counts
