# SPDX-License-Identifier: Apache-2.0
"""The final metric: how far the port's predictions of the next token are from the reference's.

T token positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Predictions:
    """What one call of one user predicts beside the reference: KL and whether the first choices agree, by position."""

    kl_T: torch.Tensor
    same_T: torch.Tensor


@dataclass(frozen=True)
class FinalMetric:
    """KL(reference ‖ port) in nats and top-1 agreement.

    `kl` and `top1` are means over all positions, `kl_last` over the last one of each call, from which the next token is
    written. Logits that are not finite have an infinite KL.
    """

    kl: float
    kl_last: float
    top1: float
    positions: int

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


def final_metric(calls: Sequence[Predictions]) -> FinalMetric:
    """The metric over these calls. Raises ValueError for none."""
    import torch

    if not calls:
        raise ValueError("no call predicted anything, so there is no final metric")
    kl = torch.cat([call.kl_T for call in calls])
    last = torch.stack([call.kl_T[-1] for call in calls])
    same = torch.cat([call.same_T for call in calls])
    return FinalMetric(float(kl.mean()), float(last.mean()), float(same.double().mean()), len(kl))
