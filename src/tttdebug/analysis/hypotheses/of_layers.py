# SPDX-License-Identifier: Apache-2.0
"""Causes of a layer's error when its branches are as they are: residuals that are missing, doubled, or scaled.

T tokens, D hidden, P parts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.mathematics.layer import branches
from tttdebug.specs import DecoderLayerSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench

INPUT = "the layer's input"


def residuals(bench: Bench) -> Iterator[Change]:
    """The input and each branch left out or added twice, then all of them as often as fits best."""
    call = bench.call
    added = branches(call.spec, call.parts)
    if call.kind != "layer" or not added:
        return
    meant = _Sum(tuple(added), parallel=isinstance(call.spec, DecoderLayerSpec) and call.spec.parallel_residual)
    for name in (INPUT, *added):
        for times in (0.0, 2.0):
            yield _changed(meant, {name: times})
    fitted = _fit(bench, added)
    yield _changed(meant, fitted, fitted=len(fitted))


@dataclass(frozen=True)
class _Sum:
    """What a layer adds up: its input and the output of each branch, which all read the input if it is `parallel`."""

    branches: tuple[str, ...]
    parallel: bool

    def where_residual_is(self, parts: Collection[str]) -> str:
        """The branch outputs that the sum of `parts` is added to as the residual; "" where it is not what comes in."""
        if self.parallel:
            return " and ".join(map(_output, self.branches)) if set(parts) == {INPUT} else ""
        before = {branch: {INPUT, *self.branches[:place]} for place, branch in enumerate(self.branches)}
        return next((_output(branch) for branch, comes_in in before.items() if comes_in == set(parts)), "")


def _changed(meant: _Sum, times: Mapping[str, float], fitted: int = 0) -> Change:
    others = {name: factor for name, factor in times.items() if abs(factor - 1.0) > 0.01}
    cause = "residual_missing" if all(factor < 0.5 for factor in others.values()) else "residual_doubled"
    if any(min(abs(factor), abs(factor - 2.0)) > 0.05 for factor in others.values()):
        cause = "scaled"
    says, fix = _in_words(meant, others)
    return Change(
        cause,
        says,
        Fix(fix),
        steps={
            "times_input": times.get(INPUT, 1.0),
            "times": {name: factor for name, factor in times.items() if name != INPUT},
        },
        fitted=fitted,
    )


def _in_words(meant: _Sum, others: Mapping[str, float]) -> tuple[str, str]:
    """What the parts that are not added once make of the layer, and what mends it."""
    if not others:
        return "every part is added once", "add every part once"
    named = " and ".join(map(_output, others))
    branch, (factor, *differing) = meant.where_residual_is(others), set(others.values())
    if branch and not differing:
        held = f"lacks {named}" if factor == 0.0 else f"holds {named} {factor:.4g} times"
        says = f"the residual is {_added(factor)} to {branch}: the layer's output {held}"
        return says, f"add the residual to {branch} once"
    says = " and ".join(f"{_output(name)} is {_added(factor)} to the residual" for name, factor in others.items())
    return says, f"add {named} to the residual once"


def _fit(bench: Bench, added: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """How often each part is in the port's output, by least squares; whole numbers where it is nearly one."""
    import torch

    parts = {INPUT: bench.memory.asked_TD, **{name: bench.memory.asked(part) for name, part in added.items()}}
    parts_XP = torch.stack([part.flatten().double() for part in parts.values()], dim=1)
    gram_PP, with_port_P = parts_XP.T @ parts_XP, parts_XP.T @ bench.port_TC.flatten().double()
    found_P = torch.linalg.lstsq(gram_PP, with_port_P[:, None]).solution[:, 0]
    return {name: _whole(float(factor)) for name, factor in zip(parts, found_P, strict=True)}


def _whole(factor: float) -> float:
    return float(round(factor)) if abs(factor - round(factor)) < 0.02 else factor


def _added(factor: float) -> str:
    return {0.0: "not added", 2.0: "added twice"}.get(factor, f"added {factor:.4g} times")


def _output(name: str) -> str:
    return name if name == INPUT else f"{name}'s output"
