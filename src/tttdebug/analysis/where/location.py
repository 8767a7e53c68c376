# SPDX-License-Identifier: Apache-2.0
"""Where in a tensor an error sits, as numbers and as sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tttdebug.analysis.where.indices import Indices, Part

_ALL = 0.99


@dataclass(frozen=True)
class NotFinite:
    """Elements that are inf or NaN: how many on each side, and where the port has them."""

    port: int
    reference: int
    tokens: Indices | None
    channels: Indices | None

    def __str__(self) -> str:
        said = f"{self.port:,} values are not finite in the port, {self.reference:,} in the reference"
        if self.tokens is None or self.channels is None:
            return said
        return f"{said}: in {self.tokens.called('position')}, {self.channels.called('column')}"


@dataclass(frozen=True)
class Match:
    """A number that says where the error begins or how long it is, and the constant that it equals.

    `times` is how many times the constant it is: 1, or more for what comes in pages, blocks and tiles.
    """

    what: str
    number: int
    constant: str
    times: int = 1

    def __str__(self) -> str:
        multiple = "" if self.times == 1 else f"{self.times} times "
        return f"{self.what} {self.number} is {multiple}the {self.constant}"


@dataclass(frozen=True)
class Trend:
    """How the error goes with the position: the relative error of the last quarter over that of the first."""

    last_over_first: float
    first_is_right: bool

    def __str__(self) -> str:
        right = "; the first position is right" if self.first_is_right else ""
        if self.last_over_first > 1:
            return f"the error grows with the position, to {self.last_over_first:.3g} times its first quarter's{right}"
        return f"the error fades with the position, to {self.last_over_first:.2g} of its first quarter's{right}"


@dataclass(frozen=True)
class Location:
    """Where in [tokens, channels] the error sits.

    `tokens` and `channels` are the places that stand out, None for a dim all along which the error is alike; `share` is
    how much of the error above the floor sits there, nan where nothing stands out. `start` is the position of the
    first token, `token_parts` and `channel_parts` the cuts that have a name.
    """

    shape: tuple[int, int]
    share: float = math.nan
    tokens: Indices | None = None
    channels: Indices | None = None
    nonfinite: NotFinite | None = None
    matches: tuple[Match, ...] = ()
    trend: Trend | None = None
    start: int = 0
    token_parts: tuple[Part, ...] = ()
    channel_parts: tuple[Part, ...] = ()

    @property
    def area(self) -> float:
        """The part of all elements that stands out; 1 where nothing does."""
        held = [1.0 if part is None else len(part.places) / part.extent for part in (self.tokens, self.channels)]
        return held[0] * held[1]

    def sentences(self) -> tuple[str, ...]:
        """What there is to say, the most important first: nothing where the error is alike everywhere."""
        said = [str(self.nonfinite)] if self.nonfinite else []
        places = self._places()
        if places:
            share = "all" if self.share >= _ALL else f"{100 * self.share:.0f} %"
            said.append(f"{share} of the error above the floor sits in {' × '.join(places)}")
        said += map(str, self.matches)
        return (*said, str(self.trend)) if self.trend else tuple(said)

    def _places(self) -> list[str]:
        places = []
        if self.tokens is not None:
            places.append(self.tokens.called("position", self.token_parts, self.start))
        if self.channels is not None:
            places.append(self.channels.called("column", self.channel_parts))
        return places
