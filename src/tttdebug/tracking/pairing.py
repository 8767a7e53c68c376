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
class PairLayout:
    """What a pair says of how its two outputs lie, beyond what their shapes tell.

    `port_element` and `reference_element` are the place (or the name in a ModelOutput) of the tensor in an output of
    several, `port_columns` and `reference_columns` the channels of a wider tensor that are meant: of a fused [q|k|v].
    `head_order` says whether the port keeps heads of `head_dim` channels in the interleaved rotary order (Meta's) where
    the reference splits them in halves; "auto" lets the values decide, where they leave no doubt. `rotary_dim` is how
    many channels of a head turn, where not all do.
    """

    port_element: int | str | None = None
    reference_element: int | str | None = None
    port_columns: tuple[int, int] | None = None
    reference_columns: tuple[int, int] | None = None
    head_order: Literal["same", "interleaved", "auto"] = "same"
    head_dim: int | None = None
    rotary_dim: int | None = None

    def __post_init__(self) -> None:
        if self.head_order not in ("same", "interleaved", "auto"):
            raise PairingError(f"head_order {self.head_order!r}: give same, interleaved or auto")
        if self.head_order != "same" and self.head_dim is None:
            raise PairingError(f"head_order {self.head_order!r} needs head_dim, the channels of one head")
        for name in ("head_dim", "rotary_dim"):
            count = getattr(self, name)
            if count is not None and (not _is_count(count) or count == 0):
                raise PairingError(f"{name} {count!r}: give a number of channels")
        for name in ("port_element", "reference_element"):
            element = getattr(self, name)
            if element is not None and not _is_count(element) and not isinstance(element, str):
                raise PairingError(f"{name} {element!r}: give a place, from 0 on, or a name")
        for name in ("port_columns", "reference_columns"):
            columns = getattr(self, name)
            if columns is not None and not (
                isinstance(columns, tuple)
                and len(columns) == 2
                and all(map(_is_count, columns))
                and columns[0] < columns[1]
            ):
                raise PairingError(f"{name} {columns!r}: give the first channel and one past the last, e.g. [0, 576]")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


AS_IT_IS = PairLayout()


@dataclass(frozen=True)
class Pair:
    """One boundary and the path of its module on either side; `{i}` in each stands for the layer number.

    `through` are the modules of the reference that the port's module computes as well, run before `reference`: what
    goes into the first one goes into the port's, and each is given what the one before gave.
    """

    boundary: str
    port: str
    reference: str
    layout: PairLayout = AS_IT_IS
    through: tuple[str, ...] = ()

    def for_layers(self, count: int) -> Iterator[Pair]:
        """This pair once per layer, or as it is when it names no layer."""
        if "{i}" not in self.port:
            yield self
            return
        for i in range(count):
            yield self.of_layer(i)

    def of_layer(self, layer: int) -> Pair:
        """This pair in one layer."""
        return replace(
            self,
            boundary=self.boundary.replace("{i}", f"{layer:02d}"),
            port=self.port.replace("{i}", str(layer)),
            reference=self.reference.replace("{i}", str(layer)),
            through=tuple(path.replace("{i}", str(layer)) for path in self.through),
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


def reference_elements(paired: Iterable[PairedModules]) -> dict[str, int | str]:
    """For each boundary whose pair says so, which tensor of the reference's output is meant."""
    said = {modules.pair.boundary: modules.pair.layout.reference_element for modules in paired}
    return {boundary: element for boundary, element in said.items() if element is not None}


def through_modules(model: nn.Module, paired: Iterable[PairedModules]) -> dict[str, tuple[nn.Module, ...]]:
    """For each boundary whose pair names some, the modules of `model` that run before the paired one."""
    return {
        modules.pair.boundary: tuple(map(model.get_submodule, modules.pair.through))
        for modules in paired
        if modules.pair.through
    }


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
        for path in (*pair.through, pair.reference):
            if path not in named:
                nearest = difflib.get_close_matches(path, named, n=3, cutoff=0.5)
                raise PairingError(
                    f"{pair.boundary}: the reference has no module {path!r}; nearest: {', '.join(nearest) or 'none'}"
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
