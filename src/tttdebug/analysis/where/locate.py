# SPDX-License-Identifier: Apache-2.0
"""Finding where in a tensor the error sits: tokens, channels, or a block of both.

T tokens, C channels, U units of one kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tttdebug.analysis.where.energy import FACE, TILE, Energy, Units, energy_of, even_part
from tttdebug.analysis.where.indices import Indices, Part
from tttdebug.analysis.where.location import Location, Match, NotFinite, Trend
from tttdebug.analysis.where.standing_out import standing_out
from tttdebug.errors import LayoutError

_LEAST_SHARE, _NEARLY, _AS_MUCH, _FILLED = 0.5, 0.98, 0.999, 1.25
_TOKENS_TO_NAME_A_CHANNEL = 4
"""Of fewer tokens a single channel's error says nothing: gains and massive activations scatter it a hundredfold."""
_SMALLEST_MULTIPLE = 16
_CORRELATED, _GROWN = 4.0, 4.0  # standard deviations of a rank correlation; energy, not rel_l2


@dataclass(frozen=True)
class _Place:
    """Tokens and channels that stand out, as masks, None for all; and the share of the error that sits there."""

    tokens_T: Tensor | None
    channels_C: Tensor | None
    share: float

    @property
    def area(self) -> float:
        return math.prod(1.0 if mask is None else float(mask.double().mean()) for mask in self._masks)

    @property
    def _masks(self) -> tuple[Tensor | None, Tensor | None]:
        return self.tokens_T, self.channels_C


def locate(
    reference_TC: Tensor,
    port_TC: Tensor,
    *,
    floor_rel_l2: float,
    head_dim: int | None = None,
    users: int = 1,
    shards: int = 1,
    constants: Mapping[str, int] | None = None,
    start: int = 0,
) -> Location:
    """Where the error of `port_TC` against `reference_TC`, both [T, C], sits.

    `floor_rel_l2` is what the number formats must cost, nan where that is not known. Channels are seen as heads of
    `head_dim` and as `shards` of a mesh, tokens as `users` one after the other, beside tiles, faces and blocks of 32.
    `start` is the position of the first token. The first bad position and the length of a bad stretch are set beside
    `constants`, {"sliding window": 40, "page size": 64}. Elements that are not finite are said first, and in no sum.

    Raises LayoutError where the two are not of one shape [T, C], or users, shards or heads do not divide it.
    """
    energy = energy_of(reference_TC, port_TC)
    tokens, channels = energy.shape
    token_parts = [Part("user", even_part(tokens, users, "tokens", "users")), Part("block", TILE)]
    channel_parts = [Part("shard", even_part(channels, shards, "channels", "shards"))]
    channel_parts += [Part("head", _whole_heads(channels, head_dim))] if head_dim is not None else []
    channel_parts.append(Part("block", TILE))
    trend = _trend(energy.row_blocks(1), floor_rel_l2) if users == 1 else None
    token_sizes = [1] if trend else [1, FACE, *(part.size for part in token_parts)]  # a slope is no stair of blocks
    channel_sizes = [FACE, *(part.size for part in channel_parts)]
    channel_sizes += [1] if tokens >= _TOKENS_TO_NAME_A_CHANNEL else []
    place = _best(_places(reference_TC, port_TC, energy, floor_rel_l2, token_sizes, channel_sizes))
    bad_T, bad_C = (None, None) if place is None else map(_indices, (place.tokens_T, place.channels_C))
    nonfinite = _not_finite(energy)
    from_where = bad_T or (nonfinite.tokens if nonfinite else None)
    return Location(
        energy.shape,
        math.nan if place is None else place.share,
        bad_T,
        bad_C,
        nonfinite,
        _matches(from_where, constants or {}, start),
        trend if bad_T is None else None,
        start,
        tuple(token_parts),
        tuple(channel_parts),
    )


def _whole_heads(channels: int, head_dim: int) -> int:
    if head_dim < 1 or channels % head_dim:
        raise LayoutError(f"{channels} channels are not whole heads of {head_dim}; give the dimension of a head")
    return head_dim


def _places(
    reference_TC: Tensor,
    port_TC: Tensor,
    energy: Energy,
    floor: float,
    token_sizes: Sequence[int],
    channel_sizes: Sequence[int],
) -> list[_Place]:
    """Tokens alone, channels alone, and where faces stand out the block of both that they lie in."""
    faces = energy.faces()
    bad_T = _bad_along(energy.row_blocks, token_sizes, floor)
    bad_C = _bad_along(energy.column_blocks, channel_sizes, floor)
    found = [] if bad_T is None else [_Place(bad_T, None, _share(energy.row_blocks(1), bad_T, floor))]
    found += [] if bad_C is None else [_Place(None, bad_C, _share(energy.column_blocks(1), bad_C, floor))]
    bad_U = standing_out(faces, floor)
    if bad_U is None:
        return found
    rows_T = bad_U.unflatten(0, faces.grid).any(1).repeat_interleave(FACE)[: energy.shape[0]]
    bad_C = _bad_along(energy_of(reference_TC[rows_T], port_TC[rows_T]).column_blocks, channel_sizes, floor)
    if bad_C is None:
        return found
    narrow = energy_of(reference_TC[:, bad_C], port_TC[:, bad_C])
    bad_T = _bad_along(narrow.row_blocks, token_sizes, floor)
    if bad_T is None:
        return found
    inside = (float(narrow.error_T[bad_T].sum()), float(narrow.reference_T[bad_T].sum()))
    return [*found, _Place(bad_T, bad_C, _share_of(inside, (energy.error, energy.reference), floor))]


def _bad_along(units_of: Callable[[int], Units], sizes: Iterable[int], floor: float) -> Tensor | None:
    """The places along one dim that stand out, in the finest cut that shows nearly as much of the error as any.

    Another cut that shows just as much in fewer places fits better. Where the places are nearly all of another cut, but
    no stretch or pattern, a few are missed by luck.
    """
    extent, seen = len(units_of(1).error_U), units_of(1)
    found = []
    for size in sorted(set(sizes)):
        bad_U = standing_out(units_of(size), floor)
        if bad_U is not None:
            mask = bad_U.repeat_interleave(size)[:extent]
            found.append((_share(seen, mask, floor), mask))
    most = max((share for share, _ in found), default=math.nan)
    enough = [(share, mask) for share, mask in found if share >= _NEARLY * most]
    if not enough:
        return None
    as_much = [mask for share, mask in enough if share >= _AS_MUCH * enough[0][0]]
    fewest = min(as_much, key=lambda mask: int(mask.sum()))
    count = int(fewest.sum())
    filled = [mask for _, mask in enough if count < int(mask.sum()) <= _FILLED * count]
    return filled[0] if filled and not Indices(_places_in(fewest), extent).step else fewest


def _best(places: Sequence[_Place]) -> _Place | None:
    """The smallest place that holds nearly as much of the error as any, and most of it."""
    most = max((place.share for place in places), default=0.0)
    enough = [place for place in places if place.share >= max(_LEAST_SHARE, _NEARLY * most)]
    return min(enough, key=lambda place: place.area, default=None)


def _share(units: Units, mask_U: Tensor, floor: float) -> float:
    inside = (float(units.error_U[mask_U].sum()), float(units.reference_U[mask_U].sum()))
    return _share_of(inside, (float(units.error_U.sum()), float(units.reference_U.sum())), floor)


def _share_of(inside: tuple[float, float], whole: tuple[float, float], floor: float) -> float:
    """How much of the energy beyond twice the floor is in a place, by the (error, reference) of it and of the whole."""
    allowed = (2 * floor) ** 2 if math.isfinite(floor) else 0.0
    within = max(0.0, inside[0] - allowed * inside[1])
    outside = max(0.0, whole[0] - inside[0] - allowed * (whole[1] - inside[1]))
    return within / (within + outside) if within else 0.0


def _indices(mask: Tensor | None) -> Indices | None:
    return None if mask is None else Indices(_places_in(mask), len(mask))


def _places_in(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[:, 0].tolist())


def _not_finite(energy: Energy) -> NotFinite | None:
    if not energy.nonfinite_port + energy.nonfinite_reference:
        return None
    by_dim = (energy.nonfinite_port_T > 0, energy.nonfinite_port_C > 0)
    places = [_indices(mask) if energy.nonfinite_port else None for mask in by_dim]
    return NotFinite(energy.nonfinite_port, energy.nonfinite_reference, *places)


def _matches(bad: Indices | None, constants: Mapping[str, int], start: int) -> tuple[Match, ...]:
    """The constants that the first bad position equals, or the number of bad ones; else those they are multiples of."""
    if bad is None:
        return ()
    numbers = {"the first bad position": start + bad.first if bad.first else 0}
    numbers["the number of bad positions"] = len(bad.places) if bad.step == 1 else 0
    found = []
    for what, number in numbers.items():
        equal = [Match(what, number, name) for name, value in constants.items() if number and number == value]
        found += equal or [
            Match(what, number, name, number // value)
            for name, value in constants.items()
            if number and value >= _SMALLEST_MULTIPLE and number % value == 0
        ]
    return tuple(found)


def _trend(tokens: Units, floor: float) -> Trend | None:
    """Whether the error grows or fades with the position: by rank, and from the first quarter to the last."""
    count = len(tokens.error_U)
    error_T, quarter = tokens.relative_U, count // 4
    if quarter == 0 or not bool(error_T.isfinite().all()):
        return None
    rank_T = error_T.argsort().argsort().double()
    pair = torch.stack((rank_T, torch.arange(count, dtype=torch.float64)))
    correlation = float(torch.corrcoef(pair)[0, 1])
    first, last = float(error_T[:quarter].mean()), float(error_T[-quarter:].mean())
    clear = _GROWN * math.exp(6 * math.sqrt(2 / (quarter * float(tokens.count_U[0]))))
    ground = floor**2 if math.isfinite(floor) else 0.0
    smaller, greater = sorted((first, last))
    if abs(correlation) * math.sqrt(count - 1) < _CORRELATED or greater <= max(clear * smaller, _GROWN * ground):
        return None
    first_is_right = float(error_T[0]) <= max(ground, 1e-14) and last > first
    return Trend(math.sqrt(last / first) if first else math.inf, first_is_right)
