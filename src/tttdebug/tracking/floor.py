# SPDX-License-Identifier: Apache-2.0
"""The floor: the error that the declared number formats must cause, measured on the reference itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class DeclaredWeight:
    """What the port's settings leave of one weight, and of the input that is multiplied by it.

    `multiplier(weight_KN)` gives the function of x [T, K] that computes the product where it is the accumulation that
    errs most, in bfloat16; else it is None.
    """

    values: torch.Tensor
    read_input: Callable[[torch.Tensor], torch.Tensor]
    multiplier: Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]] | None = None


def floor_model(model: nn.Module, declared: Mapping[str, DeclaredWeight]) -> nn.Module:
    """The reference in bfloat16 with weights and inputs as the port's settings leave them; the original is untouched.

    `declared` is by parameter name; parameters it does not name are rounded to bfloat16. A linear layer whose weight it
    names reads its input through `read_input`, and multiplies as it says.
    """
    import torch
    from torch import nn

    def in_bfloat16(name: str, parameter: nn.Parameter) -> nn.Parameter:
        values = declared[name].values if name in declared else parameter.detach()
        return nn.Parameter(values.to(torch.bfloat16), requires_grad=False)

    copied = copy.deepcopy(
        model, {id(parameter): in_bfloat16(name, parameter) for name, parameter in model.named_parameters()}
    )
    read_as_declared(copied, declared)
    return copied


def read_as_declared(model: nn.Module, declared: Mapping[str, DeclaredWeight]) -> Callable[[], None]:
    """Have the linear layers whose weight is declared read their input and multiply so; gives what undoes that."""
    from torch import nn

    handles, multiplying = [], []
    for name, weight in declared.items():
        path, _, kind = name.rpartition(".")
        module = model.get_submodule(path)
        if kind == "weight" and isinstance(module, nn.Linear):
            handles.append(module.register_forward_pre_hook(_reading_through(weight.read_input)))
            if weight.multiplier is not None:
                setattr(module, "forward", _multiplying(module, weight.multiplier))  # noqa: B010 (mypy refuses the other way)
                multiplying.append(module)

    def undo() -> None:
        for handle in handles:
            handle.remove()
        for module in multiplying:
            del module.__dict__["forward"]

    return undo


def _reading_through(read_input: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[nn.Module, Any], Any]:
    return lambda module, inputs: (read_input(inputs[0]), *inputs[1:])


def _multiplying(
    layer: nn.Linear, multiplier: Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """What the layer computes instead."""
    multiply = multiplier(layer.weight.detach().T)

    def forward(x: torch.Tensor) -> torch.Tensor:
        output = multiply(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], layer.out_features)
        return output if layer.bias is None else output + layer.bias

    return forward


FEW_TOKENS = 32
"""Fewer tokens than these are too small a sample: one of them, or one massive activation, makes the whole rel_l2."""


@dataclass(frozen=True)
class FloorError:
    """The floor of one boundary in one call: rel_l2 over all tokens, and what one token in twenty exceeds."""

    rel_l2: float
    token_rel_l2: float

    def of_prompt(self, tokens: int) -> float:
        """The floor of a prompt of so many tokens: over all of them, but for a few that of their worst."""
        return self.rel_l2 if tokens >= FEW_TOKENS else max(self.rel_l2, self.token_rel_l2)


Draws = Callable[[], Sequence[Mapping[str, FloorError]]]
"""Gives the floors of one call in other draws of their roundings, which are made when they are first asked for."""


def no_draws() -> Sequence[Mapping[str, FloorError]]:
    """Of floors that were drawn once only."""
    return ()


def floor_error(reference: torch.Tensor, floor: torch.Tensor) -> FloorError:
    """How far the floor's output is from the reference's, both [1, T, C]: ‖f − r‖ / ‖r‖, 0 where both are zero."""
    import torch

    reference_TC = reference.reshape(-1, reference.shape[-1]).float()
    error_T = torch.linalg.vector_norm(floor.reshape(reference_TC.shape).float() - reference_TC, dim=-1)
    norm_T = torch.linalg.vector_norm(reference_TC, dim=-1)
    token_T = torch.where(error_T > 0, error_T / norm_T, 0.0)
    whole = torch.linalg.vector_norm(error_T) / torch.linalg.vector_norm(norm_T)
    return FloorError(float(whole) if bool(error_T.any()) else 0.0, float(token_T.quantile(0.95)))
