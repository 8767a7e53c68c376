# SPDX-License-Identifier: Apache-2.0
"""A family as a table: how its configs become specs, how its modules pair, what its weights are called."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tttdebug.errors import FamilyError
from tttdebug.tracking.pairing import CachePair, Pair

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import CausalLMSpec


@dataclass(frozen=True)
class Family:
    """One model family. `{i}` in a name stands for the layer number.

    `weights` maps the port's weight names to the reference's; `pairs` are in the order of execution.
    """

    name: str
    architectures: tuple[str, ...]
    spec: Callable[[Any], CausalLMSpec]
    pairs: tuple[Pair, ...]
    weights: Mapping[str, str]
    caches: tuple[CachePair, ...] = ()

    def pairs_for(self, layers: int) -> tuple[Pair, ...]:
        """The pairs of a model with that many layers, in the order of execution."""
        before = [pair for pair in self.pairs[: self._first_layered] for pair in pair.for_layers(layers)]
        layered = [tuple(pair.for_layers(layers)) for pair in self.pairs if "{i}" in pair.port]
        after = [pair for pair in self.pairs[self._first_layered :] if "{i}" not in pair.port]
        return (*before, *(pair for layer in zip(*layered, strict=True) for pair in layer), *after)

    def caches_for(self, layers: int) -> tuple[CachePair, ...]:
        """The pairs of key/value caches of a model with that many layers."""
        return tuple(pair for cache in self.caches for pair in cache.for_layers(layers))

    def weight_names(self, layers: int) -> dict[str, str]:
        """The port's weight names of such a model, each with the reference's name."""
        names = {}
        for port, reference in self.weights.items():
            for i in range(layers) if "{i}" in port else (0,):
                names[port.replace("{i}", str(i))] = reference.replace("{i}", str(i))
        return names

    def port_weights(self, state: Mapping[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
        """The port's weights out of a state dict under the reference's names. Raises FamilyError for a missing one."""
        names = self.weight_names(layers)
        missing = [reference for reference in names.values() if reference not in state]
        if missing:
            raise FamilyError(
                f"the state dict lacks {len(missing)} of the {len(names)} weights that family {self.name} "
                f"reads, first {missing[0]!r}; "
                "give a state dict under the reference's names"
            )
        return {port: state[reference] for port, reference in names.items()}

    @property
    def _first_layered(self) -> int:
        return next((place for place, pair in enumerate(self.pairs) if "{i}" in pair.port), len(self.pairs))


@cache
def all_families() -> tuple[Family, ...]:
    """Every family in this package, by name."""
    package = import_module("tttdebug.families")
    modules = (import_module(f"{package.__name__}.{module.name}") for module in pkgutil.iter_modules(package.__path__))
    return tuple(
        sorted((module.FAMILY for module in modules if hasattr(module, "FAMILY")), key=lambda family: family.name)
    )


def family_for(model: Any) -> Family:
    """The family of a Hugging Face model, by its class and its config. Raises FamilyError naming those supported."""
    wanted = {type(model).__name__, *(getattr(model.config, "architectures", None) or ())}
    for family in all_families():
        if wanted & set(family.architectures):
            return family
    known = ", ".join(f"{family.name} ({', '.join(family.architectures)})" for family in all_families())
    raise FamilyError(f"no family fits the architecture {' or '.join(sorted(wanted))}; supported: {known}")
