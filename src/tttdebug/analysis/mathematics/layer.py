# SPDX-License-Identifier: Apache-2.0
"""A layer as the sum of the residual stream and what its branches gave; the branches themselves are other calls.

T tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic


@dataclass(frozen=True)
class LayerSteps:
    """How often the layer's input and each branch's output are added: once, if nothing else is said."""

    times_input: float = 1.0
    times: Mapping[str, float] = field(default_factory=dict)


def residual_sum(
    arithmetic: Arithmetic, x_TD: torch.Tensor, parts: Mapping[str, torch.Tensor], steps: LayerSteps = LayerSteps()
) -> torch.Tensor:
    """The layer's output [T, D] from its input and what its branches gave, both [T, D]."""
    total_TD = steps.times_input * x_TD
    for name, part_TD in parts.items():
        total_TD = arithmetic.rounded(total_TD + steps.times.get(name, 1.0) * part_TD.float())
    return total_TD
