# SPDX-License-Identifier: Apache-2.0
"""A module with the weights that its device really holds: what an audit found of them, tried on the module's output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change, WeightsOf

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.held_weights import HeldWeight
    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.analysis.module_call import ModuleCall

_SAID_ELSEWHERE = frozenset({"weights_exchanged"})
"""Causes that the changes of `of_weights` say in the words of the module."""


def as_held(bench: Bench) -> Iterator[Change]:
    """All weights that are not what they should be, as they are."""
    held = {name: weight for name, weight in (bench.call.held or {}).items() if name in bench.call.weights}
    named = named_matrices(held)
    if not named:
        return
    cause, says, fix = said_of(named)
    if cause not in _SAID_ELSEWHERE:
        yield Change(cause, says, fix, weights=_replaced({name: weight.values for name, weight in held.items()}))


def named_matrices(held: Mapping[str, HeldWeight]) -> dict[str, HeldWeight]:
    """Those whose fault has a name; not biases and gains, of which one is too much like another."""
    return {name: weight for name, weight in held.items() if weight.cause.name and weight.values.dim() > 1}


def said_of(wrong: Mapping[str, HeldWeight]) -> tuple[str, str, Fix]:
    """The cause that names these weights, by the first one, a sentence on all of them, and what to do."""
    says = "; ".join(f"{name} on the device: {weight.cause.detail}" for name, weight in wrong.items())
    names = ", ".join(wrong)
    fix = Fix(f"see how {names} is loaded and placed: tttdebug audit compares all weights")
    return next(iter(wrong.values())).cause.name, says, fix


def _replaced(held: Mapping[str, torch.Tensor]) -> WeightsOf:
    def replaced(weights: Mapping[str, torch.Tensor], call: ModuleCall) -> Mapping[str, torch.Tensor]:
        kept_C = call.kept_C
        known = {name: values for name, values in held.items() if name in weights}
        return {**weights, **(known if kept_C is None else {name: values[kept_C] for name, values in known.items()})}

    return replaced
