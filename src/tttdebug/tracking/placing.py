# SPDX-License-Identifier: Apache-2.0
"""The way back from the reference's layout: values of the reference put into a tensor that lies as the port's does.

Where each element goes is found by sending the places themselves the usual way, through `align`: T tokens, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tttdebug.backends import device_of, namespace_of, to_torch
from tttdebug.errors import LayoutError
from tttdebug.tracking.layout import align

if TYPE_CHECKING:
    import torch


def put_into(port_values: torch.Tensor, reference: torch.Tensor, **how: Any) -> torch.Tensor:
    """A copy of the port's values with the reference's [1, T, C] at their places; `how` goes to `align`.

    What the reference has no value for, padding and other users' rows, stays. Raises LayoutError where the layouts do
    not fit.
    """
    import torch

    places = torch.arange(port_values.numel(), dtype=torch.float64).view(port_values.shape)  # exact up to 2^53
    aligned = align(reference, places, **how)
    if aligned.reference_TC.numel() != reference.numel():
        raise LayoutError(
            f"the port's tensor {tuple(port_values.shape)} holds a part of the reference's {tuple(reference.shape)} "
            "only, so the reference's cannot be put in its place"
        )
    placed = port_values.detach().clone().float()
    placed.view(-1)[aligned.port_TC.long().flatten()] = aligned.reference_TC.flatten().float()
    return placed


def like(tensor: Any, values: torch.Tensor) -> Any:
    """A device tensor of these numbers, fp32, with the dtype, layout, device and memory of another."""
    ttnn = namespace_of(device_of(tensor))
    return ttnn.from_torch(
        values,
        dtype=tensor.dtype,
        layout=tensor.layout,
        device=device_of(tensor),
        memory_config=tensor.memory_config(),
    )


def exchanged(tensor: Any, reference: torch.Tensor, **how: Any) -> Any:
    """A device tensor as `tensor`, holding the reference's values where they have a place in it.

    Raises LayoutError where the layouts do not fit, and for a tensor on several devices.
    """
    return like(tensor, put_into(to_torch(tensor), reference, **how))
