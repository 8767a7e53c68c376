# SPDX-License-Identifier: Apache-2.0
"""A module with the weights that its device really holds: what an audit found of them, tried on the module's output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change, WeightsOf

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.analysis.module_call import ModuleCall

_SAID_ELSEWHERE = frozenset({"weights_exchanged"})
"""Causes that the changes of `of_weights` say in the words of the module."""


def as_held(bench: Bench) -> Iterator[Change]:
    """All weights that are not what they should be, as they are; named by the first one whose fault has a name.

    A module's matrices come before its biases and gains.
    """
    held = bench.call.held or {}
    wrong = sorted(
        ((name, weight) for name, weight in held.items() if name in bench.call.weights and weight.cause.name),
        key=lambda entry: entry[1].values.dim() < 2,
    )
    if not wrong or wrong[0][1].cause.name in _SAID_ELSEWHERE:
        return
    says = "; ".join(f"{name} on the device: {weight.cause.detail}" for name, weight in wrong)
    yield Change(
        wrong[0][1].cause.name,
        says,
        Fix(
            f"see how {', '.join(name for name, _ in wrong)} is loaded and placed: tttdebug audit compares all weights"
        ),
        weights=_replaced({name: weight.values for name, weight in held.items()}),
    )


def _replaced(held: Mapping[str, torch.Tensor]) -> WeightsOf:
    def replaced(weights: Mapping[str, torch.Tensor], call: ModuleCall) -> Mapping[str, torch.Tensor]:
        kept_C = call.kept_C
        known = {name: values for name, values in held.items() if name in weights}
        return {**weights, **(known if kept_C is None else {name: values[kept_C] for name, values in known.items()})}

    return replaced
