# SPDX-License-Identifier: Apache-2.0
"""A set of tokens or channels, and how an engineer would call it: a block, a head, every second one, the last ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_NAMED_ALONE = 4
_ORDINALS = {2: "second", 3: "third"}


@dataclass(frozen=True)
class Part:
    """A cut into equal parts that has a name: `head` of 64 channels, `block` of 32."""

    name: str
    size: int


@dataclass(frozen=True)
class Indices:
    """Places along one dim, ascending, of `extent` there are."""

    places: tuple[int, ...]
    extent: int

    @property
    def first(self) -> int:
        return self.places[0]

    @property
    def last(self) -> int:
        return self.places[-1]

    @property
    def step(self) -> int:
        """1 for places side by side, n for every n-th of the whole extent, 0 for any others."""
        if len(self.places) - 1 == self.last - self.first:
            return 1
        steps = {after - before for before, after in zip(self.places, self.places[1:], strict=False)}
        step = steps.pop()
        everywhere = self.first < step and self.last + step >= self.extent
        return step if not steps and everywhere and len(self.places) > 2 else 0

    @property
    def runs_to_the_end(self) -> bool:
        """Whether it is one stretch that ends with the extent and does not begin with it."""
        return self.step == 1 and self.last == self.extent - 1 and self.first > 0

    def parts(self, size: int) -> tuple[int, ...] | None:
        """Which parts of that size these are exactly, the last of what is left; None where they are no whole parts."""
        numbers = sorted({place // size for place in self.places})
        within = sum(min(size, self.extent - number * size) for number in numbers)
        return tuple(numbers) if within == len(self.places) else None

    def called(self, one: str, kinds: Iterable[Part] = (), start: int = 0) -> str:
        """In words, `one` being the word for one place; of the kinds of parts the first that fits whole is named.

        `start` is the number of the first place.
        """
        for kind in kinds:
            numbers = self.parts(kind.size)
            count = -(-self.extent // kind.size)
            if numbers is None or len(numbers) == count:
                continue
            if kind.name == "block":
                return f"{self._plain(one, start)} ({len(numbers)} of {count} blocks of {kind.size})"
            if len(numbers) <= _NAMED_ALONE:
                return f"{_counted(kind.name, numbers)} of {count}"
        return self._plain(one, start)

    def _plain(self, one: str, start: int) -> str:
        if len(self.places) == 1:
            return f"{one} {start + self.first}"
        if self.step == 1:
            if self.runs_to_the_end and len(self.places) < self.extent / 2:
                return f"the last {len(self.places)} {one}s, {start + self.first}..{start + self.last}"
            if self.runs_to_the_end:
                return f"{one}s from {start + self.first} on"
            return f"{one}s {start + self.first}..{start + self.last}"
        if self.step:
            every = _ORDINALS.get(self.step, f"{self.step}th")
            return f"every {every} {one} ({', '.join(str(start + place) for place in self.places[:3])}, …)"
        shifted = [start + place for place in self.places]
        if len(shifted) <= _NAMED_ALONE:
            return _counted(one, shifted)
        return f"{len(shifted)} {one}s between {shifted[0]} and {shifted[-1]}"


def _counted(one: str, numbers: Iterable[int]) -> str:
    *most, last = map(str, numbers)
    return f"{one}s {', '.join(most)} and {last}" if most else f"{one} {last}"
