# SPDX-License-Identifier: Apache-2.0
"""The pairs that a user gives: read from their file, written out for each layer, and held to what both sides have."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PairingError
from tttdebug.tracking.pairing import Pair, module_at, pairs_from_mapping
from tttdebug.tracking.pairing_plan import PairingPlan, UserPairs

if TYPE_CHECKING:
    from torch import nn


def user_pairs(mapping: UserPairs | None, port: Any, reference_model: nn.Module) -> list[Pair]:
    """A user's pairs, one for each layer where they name `{i}`.

    Raises PairingError, with the nearest names, for a module that is not there, and for a boundary named twice.
    """
    mapping = loaded(mapping)
    if mapping is None:
        return []
    given: Sequence[Pair]
    if isinstance(mapping, PairingPlan):
        given = mapping.pairs
    else:
        given = pairs_from_mapping(mapping) if isinstance(mapping, Mapping) else tuple(mapping)
    named = dict(reference_model.named_modules())
    pairs = [pair for template in given for pair in _of_every_layer(template, port, named)]
    seen: set[str] = set()
    for pair in pairs:
        if pair.boundary in seen:
            raise PairingError(f"{pair.boundary}: two pairs have this boundary; give each a name of its own")
        seen.add(pair.boundary)
        _require(pair, port, named)
    return pairs


def loaded(mapping: UserPairs | None) -> Mapping[str, tuple[str, str]] | Sequence[Pair] | PairingPlan | None:
    """A user's pairs, read from their file where they are in one."""
    if not isinstance(mapping, (str, Path)):
        return mapping
    from tttdebug.tracking.plan_file import read_plan

    return read_plan(mapping)


def _require(pair: Pair, port: Any, named: Mapping[str, Any]) -> None:
    """Raise PairingError, with the nearest names, when a pair names a module that one side has not."""
    if pair.reference not in named:
        nearest = difflib.get_close_matches(pair.reference, named, n=3, cutoff=0.5)
        raise PairingError(
            f"{pair.boundary}: the reference has no module {pair.reference!r}; nearest: {', '.join(nearest) or 'none'}"
        )
    module_at(port, pair.port, pair.boundary)


def _of_every_layer(template: Pair, port: Any, named: Mapping[str, Any]) -> list[Pair]:
    """The template in each layer that the reference has, and at least in the first, so that an error names it."""
    if "{i}" not in f"{template.port}{template.reference}":
        return [template]
    if any("{i}" not in text for text in (template.boundary, template.port, template.reference)):
        raise PairingError(
            f"{template.boundary}: {{i}} stands for the layer number in the boundary and in both paths, or in none"
        )
    count = 1
    while template.of_layer(count).reference in named:
        count += 1
    return [template.of_layer(i) for i in range(count)]
