# SPDX-License-Identifier: Apache-2.0
"""The floor: the error that the declared number formats must cause, measured on the reference itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class DeclaredWeight:
    """What the port's settings leave of one weight, and of the input that is multiplied by it."""

    values: torch.Tensor
    read_input: Callable[[torch.Tensor], torch.Tensor]


def floor_model(model: nn.Module, declared: Mapping[str, DeclaredWeight]) -> nn.Module:
    """The reference in bfloat16 with weights and inputs as the port's settings leave them; the original is untouched.

    `declared` is by parameter name; parameters it does not name are rounded to bfloat16. A linear layer whose weight it
    names reads its input through `read_input`.
    """
    import torch
    from torch import nn

    def in_bfloat16(name: str, parameter: nn.Parameter) -> nn.Parameter:
        values = declared[name].values if name in declared else parameter.detach()
        return nn.Parameter(values.to(torch.bfloat16), requires_grad=False)

    copied = copy.deepcopy(
        model, {id(parameter): in_bfloat16(name, parameter) for name, parameter in model.named_parameters()}
    )
    for name, module in copied.named_modules():
        weight = declared.get(f"{name}.weight")
        if isinstance(module, nn.Linear) and weight is not None:
            module.register_forward_pre_hook(_reading_through(weight.read_input))
    return copied


def _reading_through(read_input: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[nn.Module, Any], Any]:
    return lambda module, inputs: (read_input(inputs[0]), *inputs[1:])


def relative_error(reference: torch.Tensor, other: torch.Tensor) -> float:
    """‖other − reference‖ / ‖reference‖, the rel_l2 of a record, in fp32 sums; 0 when both are zero."""
    import torch

    reference = reference.float()
    norm = float(torch.linalg.vector_norm(reference))
    error = float(torch.linalg.vector_norm(other.float() - reference))
    return error / norm if norm > 0 else float("inf") if error > 0 else 0.0
