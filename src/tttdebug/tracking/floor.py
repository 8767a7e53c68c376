# SPDX-License-Identifier: Apache-2.0
"""The floor: the error that the declared number formats must cause, measured on the reference itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


def floor_model(model: nn.Module, quantised: Mapping[str, torch.Tensor]) -> nn.Module:
    """The reference in bfloat16, with the values the port's formats leave of its weights; the original is untouched.

    `quantised` is by parameter name; parameters it does not name are rounded to bfloat16.
    """
    import torch
    from torch import nn

    with torch.no_grad():
        replaced = {
            id(parameter): nn.Parameter(quantised.get(name, parameter.detach()).to(torch.bfloat16), requires_grad=False)
            for name, parameter in model.named_parameters()
        }
    return copy.deepcopy(model, replaced)


def relative_error(reference: torch.Tensor, other: torch.Tensor) -> float:
    """‖other − reference‖ / ‖reference‖, the rel_l2 of a record, in fp32 sums; 0 when both are zero."""
    import torch

    reference = reference.float()
    norm = float(torch.linalg.vector_norm(reference))
    error = float(torch.linalg.vector_norm(other.float() - reference))
    return error / norm if norm > 0 else float("inf") if error > 0 else 0.0
