# SPDX-License-Identifier: Apache-2.0
"""The final metric of an encoder, which predicts no tokens: how far the last output is from the reference's.

T positions, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class OutputErrors:
    """What one input ends in beside the reference: the squared error, and the squared norm of the reference."""

    squared_error: float
    squared_norm: float
    positions: int

    def __len__(self) -> int:
        return self.positions


@dataclass(frozen=True)
class OutputMetric:
    """rel_l2 (‖t − r‖ / ‖r‖) over all inputs together, and that of the input that is farthest off.

    Values that are not finite make both infinite.
    """

    rel_l2: float
    worst: float
    positions: int

    @property
    def error(self) -> float:
        """The square of rel_l2: unlike itself it is the sum of what independent causes add."""
        return self.rel_l2**2

    @property
    def columns(self) -> Mapping[str, str]:
        return {"rel_l2": f"{self.rel_l2:.3g}", "worst input": f"{self.worst:.3g}"}

    def without_error(self) -> OutputMetric:
        return OutputMetric(0.0, 0.0, self.positions)

    def __str__(self) -> str:
        return f"rel_l2 {self.rel_l2:.3g}, {self.worst:.3g} of the worst input, over {self.positions} positions"


def output_errors(reference_TC: torch.Tensor, port_TC: torch.Tensor) -> OutputErrors:
    """The error of one output [T, C]. Raises ValueError where the shapes differ."""
    if reference_TC.shape != port_TC.shape:
        raise ValueError(f"an output {tuple(port_TC.shape)} beside the reference's {tuple(reference_TC.shape)}")
    error = float((port_TC.double() - reference_TC.double()).square().sum())
    norm = float(reference_TC.double().square().sum())
    return OutputErrors(error if math.isfinite(error) else math.inf, norm, len(reference_TC))


def output_metric(calls: Sequence[OutputErrors]) -> OutputMetric:
    """The metric over these inputs. Raises ValueError for none."""
    if not calls:
        raise ValueError("nothing was encoded, so there is no final metric")
    errors, norms = (sum(getattr(call, name) for call in calls) for name in ("squared_error", "squared_norm"))
    worst = max(_rel_l2(call.squared_error, call.squared_norm) for call in calls)
    return OutputMetric(_rel_l2(errors, norms), worst, sum(map(len, calls)))


def _rel_l2(squared_error: float, squared_norm: float) -> float:
    if squared_norm > 0:
        return math.sqrt(squared_error / squared_norm)
    return math.inf if squared_error > 0 else 0.0
