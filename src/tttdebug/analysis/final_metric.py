# SPDX-License-Identifier: Apache-2.0
"""The final metric: how far the port's end is from the reference's; of a language model its predictions.

T token positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class FinalMetric(Protocol):
    """How far one end is from the other over all calls.

    `error` is what shares and bisections are of: 0 where the ends are alike, inf where one is not finite, and the sum
    of the errors of causes that have nothing to do with each other. `columns` are the numbers to show, by their names.
    """

    @property
    def error(self) -> float: ...

    @property
    def positions(self) -> int: ...

    @property
    def columns(self) -> Mapping[str, str]: ...

    def without_error(self) -> FinalMetric:
        """The metric of the same calls where both ends are alike."""
        ...


@dataclass(frozen=True)
class Predictions:
    """What one call of one user predicts beside the reference: KL and whether the first choices agree, by position."""

    kl_T: torch.Tensor
    same_T: torch.Tensor

    def __len__(self) -> int:
        return len(self.kl_T)


@dataclass(frozen=True)
class PredictionMetric:
    """KL(reference ‖ port) in nats and top-1 agreement.

    `kl` and `top1` are means over all positions, `kl_last` over the last one of each call, from which the next token is
    written. Logits that are not finite have an infinite KL.
    """

    kl: float
    kl_last: float
    top1: float
    positions: int

    @property
    def error(self) -> float:
        return self.kl

    @property
    def columns(self) -> Mapping[str, str]:
        return {"KL": f"{self.kl:.3g}", "KL last": f"{self.kl_last:.3g}", "top-1": f"{self.top1:.1%}"}

    def without_error(self) -> PredictionMetric:
        return PredictionMetric(0.0, 0.0, 1.0, self.positions)

    def __str__(self) -> str:
        return f"KL {self.kl:.3g}, last token {self.kl_last:.3g}, top-1 {self.top1:.1%} of {self.positions}"


def predictions(reference_TV: torch.Tensor, port_TV: torch.Tensor) -> Predictions:
    """The agreement of two logits [T, V] at each position. Raises ValueError where their shapes differ."""
    import torch

    if reference_TV.shape != port_TV.shape:
        raise ValueError(f"logits {tuple(port_TV.shape)} beside the reference's {tuple(reference_TV.shape)}")
    log_reference, log_port = (logits.double().log_softmax(-1) for logits in (reference_TV, port_TV))
    kl_T = torch.nn.functional.kl_div(log_port, log_reference, log_target=True, reduction="none").sum(-1)
    kl_T = torch.where(kl_T.isnan(), math.inf, kl_T.clamp(min=0))
    return Predictions(kl_T, (reference_TV.argmax(-1) == port_TV.argmax(-1)) & kl_T.isfinite())


def final_metric(calls: Sequence[Predictions]) -> PredictionMetric:
    """The metric over these calls. Raises ValueError for none."""
    import torch

    if not calls:
        raise ValueError("no call predicted anything, so there is no final metric")
    kl = torch.cat([call.kl_T for call in calls])
    last = torch.stack([call.kl_T[-1] for call in calls])
    same = torch.cat([call.same_T for call in calls])
    return PredictionMetric(float(kl.mean()), float(last.mean()), float(same.double().mean()), len(kl))
