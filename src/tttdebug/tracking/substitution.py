# SPDX-License-Identifier: Apache-2.0
"""Standing between a port's modules and their callers: other inputs in, other outputs out, or no call at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol

from tttdebug.backends import is_device_tensor, unreadable
from tttdebug.tracking.call_numbers import name_of_call
from tttdebug.tracking.hooks import at_same_object
from tttdebug.tracking.instance_wrapping import Wrapping, entry_points


@dataclass(frozen=True)
class PortCall:
    """One call of a module of the port, about to be made by the method `entry`."""

    boundary: str
    entry: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def input(self) -> Any:
        """The first tensor of numbers on the device among the arguments that can be read; None where there is none."""
        for value in (*self.args, *self.kwargs.values()):
            if is_device_tensor(value) and _is_of_numbers(value) and not unreadable(value):
                return value
        return None

    def with_input(self, tensor: Any) -> PortCall:
        """The same call with another tensor in its place."""
        old = self.input
        return PortCall(
            self.boundary,
            self.entry,
            tuple(tensor if value is old else value for value in self.args),
            {name: tensor if value is old else value for name, value in self.kwargs.items()},
        )


@dataclass(frozen=True)
class Answer:
    """What a module is to give without being called."""

    output: Any


class Intervention(Protocol):
    """What happens to each call: `before` gives the call to make, or the answer; `after` what the caller receives."""

    def before(self, call: PortCall) -> PortCall | Answer: ...

    def after(self, call: PortCall, output: Any) -> Any: ...


class Substitution:
    """Applies an intervention to every call of the port's modules while the block lasts.

    A module that stands at several boundaries is told by the number of its call; entry points that call another of the
    same object count once. `start_call` begins the count of calls anew.
    """

    def __init__(self, modules: Mapping[str, Any], intervention: Intervention) -> None:
        self._modules = at_same_object(modules)
        self._intervention = intervention
        self._wrapping = Wrapping()
        self._numbers: dict[int, int] = {}
        self._inside: set[int] = set()

    def start_call(self) -> None:
        """The port is about to be called as a whole."""
        self._numbers.clear()
        self._inside.clear()

    def __enter__(self) -> Substitution:
        try:
            for place, (module, boundaries) in enumerate(self._modules):
                for name, entry in entry_points(module, boundaries[0]).items():
                    self._wrapping.put(module, name, self._standing_in(place, boundaries, name, entry), boundaries[0])
        except BaseException:
            self._wrapping.undo()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._wrapping.undo()

    def _standing_in(
        self, place: int, boundaries: list[str], name: str, entry: Callable[..., Any]
    ) -> Callable[..., Any]:
        @wraps(entry)
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if place in self._inside:
                return entry(*args, **kwargs)
            number = self._numbers.get(place, 0)
            self._numbers[place] = number + 1
            self._inside.add(place)
            try:
                decided = self._intervention.before(PortCall(name_of_call(boundaries, number), name, args, kwargs))
                if isinstance(decided, Answer):
                    return decided.output
                return self._intervention.after(decided, entry(*decided.args, **decided.kwargs))
            finally:
                self._inside.discard(place)

        return stand_in


def _is_of_numbers(tensor: Any) -> bool:
    """Whether a device tensor holds numbers with a fraction, and not ids or positions."""
    return "int" not in str(tensor.dtype).lower()
