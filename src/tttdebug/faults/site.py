# SPDX-License-Identifier: Apache-2.0
"""A place for a fault: one module of a built port, its boundary, and the random choices that are made there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tttdebug.tracking.pairing import module_at

if TYPE_CHECKING:
    import torch

Choice = TypeVar("Choice")
Level = Literal["weights", "code", "state", "numbers"]
_LAYER = re.compile(r"^L(\d+)\.")


@dataclass(frozen=True)
class Site:
    """The module at `boundary` of `port`. `generator` makes every choice that a fault leaves open."""

    port: Any
    boundary: str
    module: Any
    generator: torch.Generator

    @property
    def spec(self) -> Any:
        """What the module computes."""
        return self.module.spec

    @property
    def ttnn(self) -> Any:
        return self.module.ttnn

    @property
    def layer(self) -> int | None:
        """The number of the layer; None outside of layers."""
        found = _LAYER.match(self.boundary)
        return None if found is None else int(found.group(1))

    @property
    def caches(self) -> tuple[str, ...]:
        """The boundaries of the caches that this module fills."""
        return tuple(pair.boundary for pair in getattr(self.port, "caches", ()) if pair.after == self.boundary)

    def beside(self, layer: int) -> Any:
        """The same module of another layer."""
        path = next(pair.port for pair in self.port.pairs if pair.boundary == self.boundary)
        return module_at(self.port, path.replace(f"layers.{self.layer}", f"layers.{layer}", 1))

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        import torch

        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choose(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.number(0, len(choices) - 1)]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong in ports, and how to make it go wrong in one module of a sound one.

    `causes` are the names of `analysis.causes.CAUSES` that name it rightly. `fits` says whether it can be put into a
    module, `inject` puts it there, in place. `users` is how many prompts must be in the port for it to show, `steps`
    how many decode steps. One `beyond_its_layer` reads what another layer keeps between calls.
    """

    name: str
    level: Level
    causes: frozenset[str]
    fits: Callable[[Site], bool]
    inject: Callable[[Site], None]
    users: int = 1
    steps: int = 0
    beyond_its_layer: bool = False


def fault(
    name: str,
    level: Level,
    causes: str,
    fits: Callable[[Site], bool],
    inject: Callable[[Site], None],
    *,
    users: int = 1,
    steps: int = 0,
    beyond_its_layer: bool = False,
) -> Fault:
    """One row of a table of faults; `causes` are names with blanks between."""
    return Fault(name, level, frozenset(causes.split()), fits, inject, users, steps, beyond_its_layer)
