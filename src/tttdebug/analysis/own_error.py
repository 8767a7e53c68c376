# SPDX-License-Identifier: Apache-2.0
"""Judging a module alone: whether its own error is more than what the number formats leave of its output.

T tokens, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.tracking.comparison import Comparison, compare
from tttdebug.tracking.floor import FEW_TOKENS

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Tolerance:
    """How far a sound module may be from its floor's output: so many floors, and a rel_l2 that is left out of them.

    Few tokens, of a decode step, scatter more.
    """

    of_floor: float
    left_out: float
    of_floor_of_few: float
    left_out_of_few: float

    def limit(self, floor: float, tokens: int) -> float:
        """The greatest rel_l2 of so many tokens."""
        if tokens < FEW_TOKENS:
            return math.hypot(self.of_floor_of_few * floor, self.left_out_of_few)
        return math.hypot(self.of_floor * floor, self.left_out)


# by benchmarks/own_error_margins.py
OF_FORMATS = Tolerance(of_floor=1.0, left_out=0.025, of_floor_of_few=2.0, left_out_of_few=0.05)
"""Of the reference in the port's formats, which leaves out a norm's fidelity and the steps of attention."""
OF_TWIN = Tolerance(of_floor=1.5, left_out=0.003, of_floor_of_few=2.0, left_out_of_few=0.01)
"""Of the same module on the emulator, which leaves out nothing: a port may only add up in another order."""


@dataclass(frozen=True)
class OwnError:
    """A module's error for the reference's input.

    `comparison` is with the reference; `floor` the rel_l2 that the number formats cause; `unexplained` how far the
    output is from what they make of the reference's, ‖t − f‖ / ‖r‖, beside the most that sound modules show.
    """

    comparison: Comparison
    floor: float
    unexplained: float
    limit: float

    @property
    def ratio(self) -> float:
        """`unexplained` in units of `limit`; 0 where there is no floor, inf where it is not finite."""
        if math.isnan(self.limit):
            return 0.0
        ratio = self.unexplained / self.limit
        return ratio if math.isfinite(ratio) else math.inf


def own_error(
    reference_TC: torch.Tensor,
    port_TC: torch.Tensor,
    floor_TC: torch.Tensor | None,
    tolerance: Tolerance = OF_FORMATS,
) -> OwnError:
    """Of what a module gave, beside the reference's output and what the number formats leave of that, all [T, C]."""
    comparison = compare(reference_TC, port_TC)
    passed_on = bool(comparison.nonfinite_reference) and comparison.nonfinite_masks_agree
    if floor_TC is None or passed_on:  # of what is not finite on both sides, as it came in, nothing can be judged
        return OwnError(comparison, math.nan, comparison.rel_l2, math.nan)
    floor = compare(reference_TC, floor_TC).rel_l2
    norm = float(reference_TC.float().norm())
    apart = float((port_TC.float() - floor_TC.float()).norm())
    limit = tolerance.limit(floor, len(reference_TC))
    return OwnError(comparison, floor, apart / norm if norm else apart, limit)
