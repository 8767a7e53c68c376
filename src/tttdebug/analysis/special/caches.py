# SPDX-License-Identifier: Apache-2.0
"""A key or value cache beside the reference's: what is wrong in it, and what only lies elsewhere.

K heads, T positions, E head dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tttdebug.analysis.where import Location, locate
from tttdebug.errors import LayoutError
from tttdebug.tracking.gates import explained_by_floor
from tttdebug.tracking.head_order import unrotate_heads

BLOCK = 32
_KNOWN_TO_FIT = 0.05
"""rel_l2 at which a reading fits where no floor is known: bfloat8_b costs a few thousandths, wrong keys about 1."""
_BETTER = 4.0  # how many times a reading has to be better than the cache as it lies
_NAMED = 4
_COMPARED = 512  # positions, the first ones, of which it is asked by how many they are off


@dataclass(frozen=True)
class CacheReading:
    """How a cache has to be read to be the reference's.

    `cause` is a name of `CAUSES`: rope_order, heads_permuted, kv_block_swapped or kv_position, "" where it fits as it
    lies, and "unknown" where nothing fits; `says` is the sentence for it. `rel_l2` is the error as it lies,
    `rel_l2_as_read` what is left. `order` holds the reference's head for each head of the port, or the block for each
    block, as far as that is the cause; `shift` how many positions later the port has them. `error_KT` is the rel_l2 of
    each head at each position.
    """

    cause: str
    says: str
    rel_l2: float
    rel_l2_as_read: float
    order: tuple[int, ...]
    shift: int
    error_KT: Tensor
    location: Location

    def sentences(self) -> tuple[str, ...]:
        """What the cause is; where the error sits only if nothing explains it."""
        return ((self.says,) if self.says else ()) + (self.location.sentences() if self.cause == "unknown" else ())


@dataclass(frozen=True)
class _Reading:
    """A way to read: the port's values, and what of the reference they are then to be."""

    cause: str
    says: str
    port_KTE: Tensor
    reference_KTE: Tensor
    order: tuple[int, ...] = ()
    shift: int = 0

    @property
    def rel_l2(self) -> float:
        return _rel_l2(self.reference_KTE, self.port_KTE)


@torch.no_grad()
def read_cache(
    reference_KTE: Tensor,
    port_KTE: Tensor,
    *,
    floor_rel_l2: float = math.nan,
    rotary_dim: int | None = None,
    block: int = BLOCK,
) -> CacheReading:
    """Compare the keys or values of one layer and user, both [K, T, E], trying every way in which they may lie.

    Both rotary orders (the first `rotary_dim` channels of a head, or all), other heads, blocks of `block` positions in
    other places, and all positions later or earlier. The first that brings the error to what the floor explains, and
    to a quarter of what it was, is the cause. Raises LayoutError where the shapes differ or hold nothing.
    """
    if reference_KTE.shape != port_KTE.shape or reference_KTE.ndim != 3 or not reference_KTE.numel():
        raise LayoutError(
            f"cannot compare a cache {list(port_KTE.shape)} with the reference's {list(reference_KTE.shape)}; give "
            "both as [heads, positions, head dimension]"
        )
    reference_KTE, port_KTE = reference_KTE.double(), port_KTE.double()
    positions, head_dim = reference_KTE.shape[1:]
    as_it_lies = _rel_l2(reference_KTE, port_KTE)
    fits = explained_by_floor(floor_rel_l2, positions) if floor_rel_l2 > 0 else _KNOWN_TO_FIT
    by_position = [side.transpose(0, 1).flatten(1) for side in (reference_KTE, port_KTE)]
    location = locate(by_position[0], by_position[1], floor_rel_l2=floor_rel_l2, head_dim=head_dim)
    error_KT = (port_KTE - reference_KTE).norm(dim=-1) / reference_KTE.norm(dim=-1)
    if as_it_lies <= fits:
        return CacheReading("", "", as_it_lies, as_it_lies, (), 0, error_KT, location)
    for reading in (
        *_rotary_orders(reference_KTE, port_KTE, head_dim if rotary_dim is None else rotary_dim),
        *_other_heads(reference_KTE, port_KTE),
        *_other_blocks(reference_KTE, port_KTE, block),
        *_other_positions(reference_KTE, port_KTE),
    ):
        left = reading.rel_l2
        if left <= fits and _BETTER * left <= as_it_lies:
            says = f"{reading.says}: rel_l2 {as_it_lies:.3g} → {left:.3g}"
            return CacheReading(reading.cause, says, as_it_lies, left, reading.order, reading.shift, error_KT, location)
    says = f"no order of channels, heads, blocks or positions explains its rel_l2 of {as_it_lies:.3g}"
    return CacheReading("unknown", says, as_it_lies, as_it_lies, (), 0, error_KT, location)


def _rotary_orders(reference_KTE: Tensor, port_KTE: Tensor, rotary_dim: int) -> Iterator[_Reading]:
    if rotary_dim % 2:
        return
    turned, still = port_KTE[..., :rotary_dim], port_KTE[..., rotary_dim:]
    interleaved = torch.cat((turned.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2), still), -1)
    orders = {
        "interleaved (Meta's) where the reference splits a head in halves": unrotate_heads(port_KTE, rotary_dim),
        "split in halves (Hugging Face's) where the reference interleaves": interleaved,
    }
    for name, values_KTE in orders.items():
        says = f"the rotary order is {name}, which is a harmless layout where the queries have it too"
        yield _Reading("rope_order", says, values_KTE, reference_KTE)


def _other_heads(reference_KTE: Tensor, port_KTE: Tensor) -> Iterator[_Reading]:
    order = _nearest(port_KTE.flatten(1), reference_KTE.flatten(1))
    if moved := _moved(order, "head"):
        yield _Reading("heads_permuted", moved, port_KTE, reference_KTE[list(order)], order)


def _other_blocks(reference_KTE: Tensor, port_KTE: Tensor, block: int) -> Iterator[_Reading]:
    """Blocks in other places; of the last one, which may be shorter, as far as both reach."""
    references, ports = reference_KTE.split(block, 1), port_KTE.split(block, 1)
    if len(references) < 2:
        return
    order = tuple(min(range(len(references)), key=lambda j: _apart(references[j], held)) for held in ports)
    if moved := _moved(order, f"block of {block} positions"):
        placed = [_in_place_of(references[j], held) for j, held in zip(order, ports, strict=True)]
        cause = "kv_block_swapped" if len(set(order)) == len(references) else "kv_position"
        yield _Reading(cause, moved, port_KTE, torch.cat(placed, 1), order)


def _apart(reference_KSE: Tensor, port_KSE: Tensor) -> float:
    """The mean squared difference of two blocks, over the positions that both have; inf where that is no number."""
    both = min(reference_KSE.shape[1], port_KSE.shape[1])
    apart = float((reference_KSE[:, :both] - port_KSE[:, :both]).square().mean())
    return apart if math.isfinite(apart) else math.inf


def _in_place_of(reference_KSE: Tensor, port_KSE: Tensor) -> Tensor:
    """A block of the reference at the length of one of the port; what it has not is taken from the port's."""
    length = port_KSE.shape[1]
    return torch.cat((reference_KSE[:, :length], port_KSE[:, reference_KSE.shape[1] :]), 1)


def _other_positions(reference_KTE: Tensor, port_KTE: Tensor) -> Iterator[_Reading]:
    """All positions later or earlier, by as much as fits best: single tokens may be alike in many places."""
    positions = reference_KTE.shape[1]
    port_TC, reference_TC = (side[:, :_COMPARED].transpose(0, 1).flatten(1) for side in (port_KTE, reference_KTE))
    apart_TT = torch.cdist(port_TC, reference_TC).square().nan_to_num(nan=math.inf)
    farthest = len(apart_TT) // 2
    shift = min(range(-farthest, farthest + 1), key=lambda by: float(apart_TT.diagonal(-by).mean()))
    if not shift:
        return
    late, early = slice(abs(shift), None), slice(0, positions - abs(shift))
    of_port, of_reference = (late, early) if shift > 0 else (early, late)
    says = f"all positions are {abs(shift)} {'later' if shift > 0 else 'earlier'} than the reference's"
    yield _Reading("kv_position", says, port_KTE[:, of_port], reference_KTE[:, of_reference], (), shift)


def _nearest(port_NX: Tensor, reference_MX: Tensor) -> tuple[int, ...]:
    """For each of the port's vectors the number of the nearest of the reference's."""
    return tuple(torch.cdist(port_NX, reference_MX).nan_to_num(nan=math.inf).argmin(1).tolist())


def _moved(order: Sequence[int], what: str) -> str:
    """Which of the port's are which of the reference's, where they are others; "" where none is."""
    moved = [f"{i} is the reference's {j}" for i, j in enumerate(order) if i != j]
    more = f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
    return f"the port's {what} {', '.join(moved[:_NAMED])}{more}" if moved else ""


def _rel_l2(reference: Tensor, port: Tensor) -> float:
    """Infinite where a value is not finite, so that nothing fits."""
    error = float((port - reference).norm() / reference.norm())
    return error if math.isfinite(error) else math.inf
