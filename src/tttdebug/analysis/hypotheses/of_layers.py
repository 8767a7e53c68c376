# SPDX-License-Identifier: Apache-2.0
"""Causes of a layer's error when its branches are as they are: residuals that are missing, doubled, or scaled.

T tokens, D hidden, P parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.mathematics.layer import branches

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
    for name in (INPUT, *added):
        for times in (0.0, 2.0):
            yield _changed({name: times})
    fitted = _fit(bench, added)
    yield _changed(fitted, fitted=len(fitted))


def _changed(times: Mapping[str, float], fitted: int = 0) -> Change:
    others = {name: factor for name, factor in times.items() if abs(factor - 1.0) > 0.01}
    says = " and ".join(f"{name} is {_in_words(factor)}" for name, factor in others.items())
    cause = "residual_missing" if all(factor < 0.5 for factor in others.values()) else "residual_doubled"
    if any(min(abs(factor), abs(factor - 2.0)) > 0.05 for factor in others.values()):
        cause = "scaled"
    return Change(
        cause,
        says or "every part is added once",
        Fix(f"add {' and '.join(others) or 'every part'} once"),
        steps={
            "times_input": times.get(INPUT, 1.0),
            "times": {name: factor for name, factor in times.items() if name != INPUT},
        },
        fitted=fitted,
    )


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


def _in_words(factor: float) -> str:
    return {0.0: "not added", 2.0: "added twice"}.get(factor, f"added {factor:.4g} times")
