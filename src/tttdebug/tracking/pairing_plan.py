# SPDX-License-Identifier: Apache-2.0
"""The plan of a comparison: which modules are paired, how each pair was found, and what is left over on either side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tttdebug.tracking.pairing import Pair

if TYPE_CHECKING:
    from torch import nn

FoundBy = Literal["mapping", "path", "synonym", "class and order", "shapes"]


@dataclass(frozen=True)
class PlannedPair:
    """A pair, the rule that found it, and in a few words on what evidence."""

    pair: Pair
    found_by: FoundBy
    because: str = ""


@dataclass(frozen=True)
class Unpaired:
    """A module that nothing is compared with, and why."""

    path: str
    class_name: str
    reason: str


@dataclass(frozen=True)
class PairingPlan:
    """Every module of either side is in one of these: in a pair, or among the unpaired with a reason.

    `notes` are what discovery could not read, and choices that a user should know of.
    """

    planned: tuple[PlannedPair, ...]
    unpaired_port: tuple[Unpaired, ...] = ()
    unpaired_reference: tuple[Unpaired, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs, in the order of execution."""
        return tuple(planned.pair for planned in self.planned)


UserPairs: TypeAlias = "Mapping[str, tuple[str, str]] | Sequence[Pair] | PairingPlan | str | Path"
"""A user's own pairs: {boundary: (port path, reference path)}, pairs, a plan, or the path of a plan's TOML file."""


def plan_pairs(port: Any, reference_model: nn.Module, mapping: UserPairs | None = None) -> PairingPlan:
    """Which module of `port` answers to which module of `reference_model`.

    What `mapping` says holds; the rest is found by exact path, then synonyms, then class and order, then shapes.

    Raises PairingError, with the nearest names, when `mapping` names a module that is not there, and when no pair is
    found at all.
    """
    from tttdebug.tracking.pair_finding import find_pairs

    return find_pairs(port, reference_model, mapping)
