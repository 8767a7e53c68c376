# SPDX-License-Identifier: Apache-2.0
"""What collectives do to the values of the devices of one group: gather, add around a ring, part.

Every hop of a sum packs the partial sum in the tensor's data type, so that the order of devices decides its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch

from tttdebug.emulator.device import Device
from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import ELTWISE, ELTWISE_FP32
from tttdebug.emulator.plans import BinaryPlan


class Topology(Enum):
    """How the devices of a group are joined: it decides the order in which sums are made."""

    Ring = 0
    Linear = 1
    Mesh = 2
    Torus = 3

    def __repr__(self) -> str:
        return f"Topology.{self.name}"

    __str__ = __repr__


def gathered(values: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
    """The devices' values joined along `dim`, in their order."""
    return torch.cat(list(values), dim)


def parted(op: str, values: torch.Tensor, dim: int, count: int) -> Sequence[torch.Tensor]:
    """`count` equal parts along `dim`."""
    if not -values.ndim <= dim < values.ndim or values.shape[dim] % count:
        raise EmulatorError(f"{op}: {list(values.shape)} does not divide along dim={dim} over {count} devices")
    return values.chunk(count, dim)


def scattered_sums(
    op: str, values: Sequence[torch.Tensor], dim: int, topology: Topology, dtype: DataType, devices: Sequence[Device]
) -> list[torch.Tensor]:
    """For each device its part along `dim` of the sum over all devices."""
    count = len(values)
    parts = [parted(op, value, dim, count) for value in values]
    return [
        summed([parts[device][own] for device in range(count)], own, topology, dtype, devices[own])
        for own in range(count)
    ]


def summed(
    parts: Sequence[torch.Tensor], own: int, topology: Topology, dtype: DataType, device: Device
) -> torch.Tensor:
    """The sum that ends at the device `own`.

    Around a ring the partial sum starts at the next device and passes all others on its way. On a line two partial sums
    come from both ends and meet.
    """
    count = len(parts)
    if topology is not Topology.Linear:
        return _along([parts[(own + 1 + hop) % count] for hop in range(count)], dtype, device)
    from_left = _along(parts[:own], dtype, device) if own else None
    from_right = _along(parts[:own:-1], dtype, device) if own < count - 1 else None
    total = parts[own]
    for partial in (from_left, from_right):
        if partial is not None:
            total = _add(total, partial, dtype, device)
    return total


def _along(parts: Sequence[torch.Tensor], dtype: DataType, device: Device) -> torch.Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = _add(total, part, dtype, device)
    return total


def _add(a: torch.Tensor, b: torch.Tensor, dtype: DataType, device: Device) -> torch.Tensor:
    unit = "fpu" if dtype.is_float else "sfpu"
    kernel = ELTWISE_FP32 if dtype is DataType.FLOAT32 else ELTWISE
    form = dtype.format
    return device.engine.binary(a, b, BinaryPlan("add", unit, kernel, form, form, form))
