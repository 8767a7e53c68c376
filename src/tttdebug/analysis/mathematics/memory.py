# SPDX-License-Identifier: Apache-2.0
"""What the variants of one call share, made once: weights as the port reads them, and the input's products with them.

T tokens, R those whose output is asked for, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.module_call import ReadAs


class Kept:
    """What was made of which objects; these are held, so that none is reborn under another's identity."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Any, Any]] = {}

    def once(self, about: str, sources: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` gives for these very objects, made the first time only."""
        key = (about, *map(id, sources))
        if key not in self._made:
            self._made[key] = (sources, make())
        return self._made[key][1]


class Memory:
    """The input of one call, and what was made of it and of the call's weights.

    `rows` are the tokens whose output is asked for, all if None: `asked_TD` is their input. Only weights of `of_call`
    in the call's own `formats` are remembered: changed ones are many and large. With `changed_as_they_are` these are
    not even brought into their format, which costs more than all the rest and matters little to tell one change from
    another. `weights` may be shared with another memory of the same call.
    """

    def __init__(
        self,
        input_TD: torch.Tensor,
        of_call: Mapping[str, torch.Tensor] | None = None,
        formats: Mapping[str, ReadAs] | None = None,
        rows: torch.Tensor | None = None,
        weights: Kept | None = None,
        *,
        changed_as_they_are: bool = False,
    ) -> None:
        self.input_TD, self.rows = input_TD, rows
        self.asked_TD = input_TD if rows is None else input_TD[rows]
        self.changed_as_they_are = changed_as_they_are
        self.weights, self.products = weights or Kept(), Kept()
        self._of_call = {id(weight): weight for weight in (of_call or {}).values()}
        self._formats = {id(read_as) for read_as in (None, *(formats or {}).values())}

    def reading(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Memory:
        """The same for an input that is read otherwise; weights are still shared."""
        other = copy(self)
        other.input_TD, other.products = change(self.input_TD), Kept()
        other.asked_TD = other.input_TD if self.rows is None else other.input_TD[self.rows]
        return other

    def asked(self, values_TX: torch.Tensor) -> torch.Tensor:
        """Of values of all tokens those that are asked for."""
        return values_TX if self.rows is None else values_TX[self.rows]

    def is_of_call(self, weight: torch.Tensor) -> bool:
        """Whether this is a weight of the call itself, perhaps in another's place."""
        return id(weight) in self._of_call

    def keeps(self, weight: torch.Tensor, read_as: ReadAs | None) -> bool:
        """Whether what is made of this weight in this format is remembered."""
        return self.is_of_call(weight) and id(read_as) in self._formats

    @contextmanager
    def trying(self, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """For a while, remember the input's products with these weights too, as they are."""
        of_call, kept, products = self._of_call, self.weights, self.products
        self._of_call = {id(weight): weight for weight in weights.values()}
        self.weights, self.products = _AsTheyAre(of_call, kept), Kept()
        self._of_call |= of_call
        try:
            yield
        finally:
            self._of_call, self.weights, self.products = of_call, kept, products


class _AsTheyAre(Kept):
    """Weights of a call as they are kept, all others as they are."""

    def __init__(self, of_call: Mapping[int, torch.Tensor], kept: Kept) -> None:
        super().__init__()
        self._of_call, self._kept = of_call, kept

    def once(self, about: str, sources: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        return self._kept.once(about, sources, make) if id(sources[0]) in self._of_call else sources[0]
