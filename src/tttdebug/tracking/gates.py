# SPDX-License-Identifier: Apache-2.0
"""Gates: what a boundary must reach, and the verdict on one that was compared."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.tracking.floor import FEW_TOKENS

if TYPE_CHECKING:
    from tttdebug.tracking.comparison import Comparison

# Margins above the floor, chosen by what sound ports show in benchmarks/floor_margins.py.
# The floor leaves some settings out, a norm's own fidelity and attention's exponential, which weigh most where it is
# small; a large one is made by the weights' format alone.
_SMALLEST_FLOOR_FACTOR, _SMALL_FLOOR_FACTOR, _LEFT_OUT_OF_SMALL = 5.0, 3.0, 0.03
#                     factor, and how much rel_l2 these settings may add
_LARGE_FLOOR, _LARGE_FLOOR_OF_FEW_TOKENS = (1.5, 0.08), (1.75, 0.15)
_NEAR = 4.0  # so many times what a floor explains, further draws of it may explain
LOGITS_WARN_PCC = 0.96
_LAYER_OR_CALL = re.compile(r"^L\d+\.|#\d+$")

#                    prefill  decode   gates of the field; decode is the prefill-to-decode transition
_PCC_GATES = {
    "norm": (0.999, 0.998),
    "embed": (0.999, 0.999),
    "branch": (0.99, 0.98),
    "layer_out": (0.99, 0.98),
    "logits": (0.90, 0.90),
}
_BRANCH_WITH_BFLOAT4 = 0.98
_SLOPE_TOLERANCE, _DECODE_SLOPE_TOLERANCE = 0.02, 0.1


@dataclass(frozen=True)
class Gate:
    """Limits of one boundary: a lowest PCC, and how far the slope ⟨r,t⟩/⟨r,r⟩ may be from 1."""

    pcc: float
    slope_tolerance: float

    def misses(self, comparison: Comparison) -> tuple[str, ...]:
        """A sentence for each limit that the comparison misses. The slope is missed with and without its outliers."""
        core_holds = abs(comparison.core_slope - 1) <= self.slope_tolerance
        return comparison.failures(pcc=self.pcc, slope=None if core_holds else self.slope_tolerance)


def kind_of(boundary: str) -> str:
    """What stands behind a layer's number, before that of a call: `L07.mlp` and `L07.mlp#2` are an `mlp`."""
    return _LAYER_OR_CALL.sub("", boundary)


def default_gate(
    boundary: str, phase: str = "prefill", weight_dtypes: Iterable[str] = (), tokens: int = FEW_TOKENS
) -> Gate:
    """The field's usual gate for a boundary.

    PCC 0.999 for norms, 0.99 for branches and layers (0.98 with a bfloat4_b weight), 0.90 for logits; slope within
    1 ± 0.02. In decode, and for prompts of less than 32 tokens, which scatter more: 0.998, 0.98, 0.90; 1 ± 0.1.
    """
    few = phase == "decode" or tokens < FEW_TOKENS
    kind = kind_of(boundary)
    group = "norm" if kind.endswith("norm") else kind if kind in _PCC_GATES else "branch"
    pcc = _PCC_GATES[group][few]
    if group == "branch" and "bfloat4_b" in weight_dtypes:
        pcc = min(pcc, _BRANCH_WITH_BFLOAT4)
    return Gate(pcc, _DECODE_SLOPE_TOLERANCE if few else _SLOPE_TOLERANCE)


@dataclass(frozen=True)
class Judgement:
    """A verdict, and the limits that were missed, a sentence each."""

    verdict: str
    missed: tuple[str, ...]


def explained_by_floor(floor_rel_l2: float, tokens: int) -> float:
    """The greatest rel_l2 of so many tokens that number formats explain, by their floor; nan when that is not known.

    About three times the floor: of the smallest up to five times, of a large one less, towards 1.5 times (1.75 for a
    few tokens, which scatter more), since three times 0.4 would excuse anything.
    """
    small = math.hypot(_SMALL_FLOOR_FACTOR * floor_rel_l2, _LEFT_OUT_OF_SMALL)
    factor, left_out = _LARGE_FLOOR_OF_FEW_TOKENS if tokens < FEW_TOKENS else _LARGE_FLOOR
    return min(_SMALLEST_FLOOR_FACTOR * floor_rel_l2, small, math.hypot(factor * floor_rel_l2, left_out))


def is_near(comparison: Comparison, floor_rel_l2: float) -> bool:
    """Whether an error that its floor does not explain is so near that other draws of the floor may."""
    return comparison.rel_l2 <= _NEAR * explained_by_floor(floor_rel_l2, tokens=comparison.shape[0])


def judge(comparison: Comparison, gate: Gate, floor_rel_l2: float) -> Judgement:
    """The verdict on one comparison.

    `nonfinite` where the same elements are not non-finite on both sides; `ok` where the gate holds; `floor` where it
    does not but the number formats explain the error; else `diverged`.
    """
    missed = gate.misses(comparison)
    if not comparison.nonfinite_masks_agree:
        return Judgement("nonfinite", missed)
    if not missed:
        return Judgement("ok", ())
    explained = comparison.rel_l2 <= explained_by_floor(floor_rel_l2, tokens=comparison.shape[0])
    return Judgement("floor" if explained else "diverged", missed)
