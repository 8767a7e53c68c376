# SPDX-License-Identifier: Apache-2.0
"""Tokens whose experts the number formats may choose: a router's scores that lie nearer together than their rounding.

Such a token may go to other experts on either side without any fault, and its output then says nothing of the experts.
T tokens, X experts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tttdebug.analysis.ties import TIE
from tttdebug.specs import MixtureOfExpertsSpec

if TYPE_CHECKING:
    import torch

LEAST_NOISE = 2.0**-8
"""Of scores in bfloat16, relative to their size."""

_STEEPEST_SIGMOID = 0.25


def decided_tokens(
    spec: MixtureOfExpertsSpec, weights: Mapping[str, torch.Tensor], logits_TX: torch.Tensor, floor_rel_l2: float
) -> torch.Tensor:
    """Which tokens [T] choose their experts by more than the noise of the router's scores.

    `logits_TX` are the reference's, and `floor_rel_l2` the error that the number formats cause in them.
    """
    import torch

    if spec.experts_per_token >= spec.num_experts:
        return torch.ones(len(logits_TX), dtype=torch.bool)
    relative = max(LEAST_NOISE, floor_rel_l2 if math.isfinite(floor_rel_l2) else 0.0)
    noise = relative * float(logits_TX.float().square().mean().sqrt())
    scores_TX = logits_TX.float()
    if spec.selection_bias:  # then what is chosen by is not the order of the logits
        scores_TX, noise = scores_TX.sigmoid() + weights["router.selection_bias"].flatten(), noise * _STEEPEST_SIGMOID
    top_TA = scores_TX.topk(spec.experts_per_token + 1).values
    return top_TA[:, -2] - top_TA[:, -1] > TIE * math.sqrt(2) * noise
