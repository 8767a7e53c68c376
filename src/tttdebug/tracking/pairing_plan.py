# SPDX-License-Identifier: Apache-2.0
"""The plan of a comparison: which modules are paired, how each pair was found, and what is left over on either side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tttdebug.tracking.pairing import Pair

if TYPE_CHECKING:
    from torch import nn

LAYERED = re.compile(r"(.*\b)L(\d{2,})\.(.+)")
"""A boundary within a layer: the stack, the layer's number, and the part."""

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

    `notes` are what discovery could not read. A complete plan is all that is to be compared: where it is given as a
    user's mapping, nothing is paired besides; one that is not complete, only what it says is settled.
    """

    planned: tuple[PlannedPair, ...]
    unpaired_port: tuple[Unpaired, ...] = ()
    unpaired_reference: tuple[Unpaired, ...] = ()
    notes: tuple[str, ...] = ()
    complete: bool = True

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs, in the order of execution."""
        return tuple(planned.pair for planned in self.planned)


_BEFORE_LAYERS, _LAYERS, _BETWEEN, _AFTER = range(4)
_PLACES = {
    "embed": (_BEFORE_LAYERS, 0),
    "positions": (_BEFORE_LAYERS, 1),
    **{boundary: (_AFTER, i) for i, boundary in enumerate(("final_norm", "pooler", "classifier", "logits"))},
}
_IN_LAYER = (
    *("input_norm", "self_attn", "post_attn_norm", "cross_attn"),
    *("pre_mlp_norm", "router", "shared_expert", "mlp", "post_mlp_norm"),
)
_PARTS = (
    *("qkv", "q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "o_proj"),
    *("gate_proj", "up_proj", "gate_up_proj", "fc1", "act", "down_proj", "fc2"),
)


def in_order(planned: Iterable[PlannedPair]) -> tuple[PlannedPair, ...]:
    """Pairs in the order in which a decoder runs them, by their boundaries; a module comes after its parts."""
    return tuple(sorted(planned, key=lambda each: _place(each.pair.boundary)))


def _place(boundary: str) -> tuple[Any, ...]:
    layered = LAYERED.match(boundary)
    if layered is None:
        first, _, inner = boundary.partition(".")
        return (*_PLACES.get(first, (_BETWEEN, 0)), 0, "", 0, 0, 0 if inner else 1)
    stack, layer, rest = layered.groups()
    first, _, inner = rest.partition(".")
    among = _IN_LAYER.index(first) if first in _IN_LAYER else len(_IN_LAYER) + (rest == "layer_out")
    is_read_later = not any(kind in stack for kind in ("encoder", "vision"))
    within = _PARTS.index(inner) if inner in _PARTS else -1
    return _LAYERS, 0, is_read_later, stack, int(layer), among, within if inner else len(_PARTS)


UserPairs: TypeAlias = "Mapping[str, tuple[str, str]] | Sequence[Pair] | PairingPlan | str | Path"
"""A user's own pairs: {boundary: (port path, reference path)}, pairs, a plan, or the path of a plan's TOML file."""


def plan_pairs(port: Any, reference_model: nn.Module, mapping: UserPairs | None = None) -> PairingPlan:
    """Which module of `port` answers to which module of `reference_model`.

    What `mapping` says holds; the rest is found by exact path, then synonyms, then class and order, then shapes,
    unless `mapping` is a complete plan.

    Raises PairingError, with the nearest names, when `mapping` names a module that is not there, and when no pair is
    found at all.
    """
    from tttdebug.tracking.pair_finding import find_pairs

    return find_pairs(port, reference_model, mapping)
