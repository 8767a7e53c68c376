# SPDX-License-Identifier: Apache-2.0
"""Causes that show in the output alone: a factor, an offset, a sum over devices made twice.

T tokens, C output channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change, OutputOf

if TYPE_CHECKING:
    from tttdebug.analysis.hypotheses.bench import Bench

DEVICES = (2, 4, 8, 32)
"""How often a value may be added up: by as many devices, where a sum over them is made once too often."""
_ONE = 0.01  # a fitted factor nearer to one than this changes nothing worth a cause


def times(factor: float) -> OutputOf:
    """The output multiplied by a factor."""
    return lambda out_TC, call: out_TC * factor


def doubled_reduce(bench: Bench) -> Iterator[Change]:
    """The output n times, as the sum over n devices gives of what is summed already."""
    for devices in DEVICES:
        yield Change(
            "reduce_doubled",
            f"the output is {devices} times what it should be: every value is added up {devices} times",
            Fix("add it up once; on a mesh, look for an all-reduce of values that are summed already"),
            output=times(float(devices)),
        )


def scale(bench: Bench) -> Iterator[Change]:
    """The output times the factor that fits best."""
    healthy_TC = bench.healthy_TC.double()
    norm = float((healthy_TC * healthy_TC).sum())
    if not norm:
        return
    factor = float((bench.port_TC.double() * healthy_TC).sum()) / norm
    if abs(factor - 1.0) > _ONE:
        yield Change(
            "scaled",
            f"the output is {factor:.4g} times what it should be",
            Fix(f"divide by {factor:.4g}: look for a factor that is applied twice or left out"),
            output=times(factor),
            fitted=1,
        )


def slope_and_offset(bench: Bench) -> Iterator[Change]:
    """The output as a + b times what it should be, fitted by least squares; a alone first."""
    healthy_TC, port_TC = bench.healthy_TC.double(), bench.port_TC.double()
    shift = float((port_TC - healthy_TC).mean())
    yield _offset(1.0, shift, fitted=1)
    spread = healthy_TC - healthy_TC.mean()
    variance = float(spread.square().sum())
    if variance:
        slope = float((port_TC * spread).sum()) / variance
        yield _offset(slope, float(port_TC.mean()) - slope * float(healthy_TC.mean()), fitted=2)


def _offset(slope: float, shift: float, fitted: int) -> Change:
    multiple = "" if slope == 1.0 else f"{slope:.4g} times "
    return Change(
        "offset",
        f"the output is {multiple}what it should be {'plus' if shift >= 0 else 'minus'} {abs(shift):.4g}",
        Fix(f"subtract {shift:.4g}{'' if slope == 1.0 else f' and divide by {slope:.4g}'}: look for an added constant"),
        output=lambda out_TC, call: slope * out_TC + shift,
        fitted=fitted,
    )
