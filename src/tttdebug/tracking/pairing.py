# SPDX-License-Identifier: Apache-2.0
"""Pairs: which module of the port answers to which module of the reference, at which boundary."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tttdebug.errors import PairingError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Pair:
    """One boundary and the path of its module on either side; `{i}` in all three stands for the layer number."""

    boundary: str
    port: str
    reference: str

    def for_layers(self, count: int) -> Iterator[Pair]:
        """This pair once per layer, or as it is when it names no layer."""
        if "{i}" not in self.port:
            yield self
            return
        for i in range(count):
            yield self.of_layer(i)

    def of_layer(self, layer: int) -> Pair:
        """This pair in one layer."""
        return Pair(
            self.boundary.replace("{i}", f"{layer:02d}"),
            self.port.replace("{i}", str(layer)),
            self.reference.replace("{i}", str(layer)),
        )


@dataclass(frozen=True)
class CachePair:
    """A layer's keys or values: what each call wrote into the cache.

    They are compared when the module at boundary `after` returns. `port` is the path of a device tensor
    [users, heads, length, head_dim]; `interleaved` says that its heads are in interleaved rotary order while the
    reference's are split in halves, their first `rotary_dim` channels where not all turn. `{i}` stands for the layer
    number.
    """

    boundary: str
    port: str
    part: Literal["keys", "values"]
    after: str
    interleaved: bool = False
    rotary_dim: int | None = None
    layer: int = 0

    def for_layers(self, count: int) -> Iterator[CachePair]:
        """This pair once per layer."""
        for i in range(count):
            boundary, after = (name.replace("{i}", f"{i:02d}") for name in (self.boundary, self.after))
            yield replace(self, boundary=boundary, after=after, port=self.port.replace("{i}", str(i)), layer=i)


@dataclass(frozen=True)
class PairedModules:
    """A pair whose modules were found."""

    pair: Pair
    port: Any
    reference: nn.Module


def pairs_from_mapping(mapping: Mapping[str, tuple[str, str]]) -> tuple[Pair, ...]:
    """A user's mapping {boundary: (port path, reference path)} as pairs."""
    return tuple(Pair(boundary, port, reference) for boundary, (port, reference) in mapping.items())


def pair_modules(port: Any, reference: nn.Module, pairs: Iterable[Pair]) -> list[PairedModules]:
    """The modules of each pair.

    Raises PairingError, with the nearest names, when a path leads nowhere, or for no pairs.
    """
    named = dict(reference.named_modules(remove_duplicate=False))  # a shared module has several paths
    found = []
    for pair in pairs:
        if pair.reference not in named:
            nearest = difflib.get_close_matches(pair.reference, named, n=3, cutoff=0.5)
            raise PairingError(
                f"{pair.boundary}: the reference has no module {pair.reference!r}; nearest: "
                f"{', '.join(nearest) or 'none'}"
            )
        found.append(PairedModules(pair, module_at(port, pair.port, pair.boundary), named[pair.reference]))
    if not found:
        raise PairingError("there is nothing to compare: no pair was given and the port declares none")
    return found


def module_at(root: Any, path: str, boundary: str = "") -> Any:
    """The object at a dotted path of attributes, list places and dictionary keys: `layers.3.attention`."""
    here, walked = root, "port"
    for part in path.split("."):
        try:
            here = _step(here, part)
        except (AttributeError, LookupError):
            nearest = difflib.get_close_matches(part, _names_in(here), n=3, cutoff=0.4)
            raise PairingError(
                f"{boundary or path}: {walked} ({type(here).__name__}) has no {part!r} of the path {path!r}; "
                f"nearest: {', '.join(nearest) or 'none'}"
            ) from None
        walked += f".{part}"
    return here


def _step(here: Any, part: str) -> Any:
    if isinstance(here, (list, tuple)) and re.fullmatch(r"\d+", part):
        return here[int(part)]
    if isinstance(here, Mapping):
        return here[int(part)] if part.isdigit() and int(part) in here else here[part]
    return getattr(here, part)


def _names_in(here: Any) -> list[str]:
    if isinstance(here, Mapping):
        return [str(key) for key in here]
    if isinstance(here, (list, tuple)):
        return [str(i) for i in range(len(here))]
    return [name for name in dir(here) if not name.startswith("_")]
