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

# what the floor leaves out of a sound module, by benchmarks/own_error_margins.py: a norm's fidelity, attention's steps
_OF_FLOOR, _LEFT_OUT = 1.0, 0.025
_OF_FLOOR_OF_FEW_TOKENS, _LEFT_OUT_OF_FEW_TOKENS = 2.0, 0.05


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
    def is_injected(self) -> bool:
        """Whether the number formats do not explain it. What is not finite is explained by nothing."""
        return not self.unexplained <= self.limit and not math.isnan(self.floor)


def own_error(reference_TC: torch.Tensor, port_TC: torch.Tensor, floor_TC: torch.Tensor | None) -> OwnError:
    """Of what a module gave, beside the reference's output and what the number formats leave of that, all [T, C]."""
    comparison = compare(reference_TC, port_TC)
    if floor_TC is None:
        return OwnError(comparison, math.nan, comparison.rel_l2, math.nan)
    floor = compare(reference_TC, floor_TC).rel_l2
    norm = float(reference_TC.float().norm())
    apart = float((port_TC.float() - floor_TC.float()).norm())
    return OwnError(comparison, floor, apart / norm if norm else apart, sound_limit(floor, len(reference_TC)))


def sound_limit(floor: float, tokens: int) -> float:
    """The most that a sound module is away from its floor's output, in rel_l2."""
    if tokens < FEW_TOKENS:
        return math.hypot(_OF_FLOOR_OF_FEW_TOKENS * floor, _LEFT_OUT_OF_FEW_TOKENS)
    return math.hypot(_OF_FLOOR * floor, _LEFT_OUT)
