# SPDX-License-Identifier: Apache-2.0
"""Outputs of the port's modules kept on the host, to be given again when the port has long freed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.exchange import read_whole
from tttdebug.backends import device_of, is_device_tensor, namespace_of
from tttdebug.errors import LayoutError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeldTensor:
    """The values of a device tensor, and all that it takes to make one like it."""

    values: torch.Tensor
    dtype: Any
    layout: Any
    device: Any
    memory_config: Any

    def on_device(self) -> Any:
        """A new device tensor of the same values, dtype, layout and memory."""
        return namespace_of(self.device).from_torch(
            self.values,
            dtype=self.dtype,
            layout=self.layout,
            device=self.device,
            memory_config=self.memory_config,
        )


@dataclass(frozen=True)
class HeldOutput:
    """A module's output, with a HeldTensor where a device tensor was."""

    structure: Any

    def again(self) -> Any:
        """The output once more, in tensors of its own."""
        return _each(self.structure, HeldTensor, HeldTensor.on_device)


def hold(output: Any) -> HeldOutput | None:
    """A copy of an output on the host; None where a tensor of it cannot be read, lies on several devices or on none."""
    found: list[HeldTensor] = []

    def held(tensor: Any) -> HeldTensor:
        if device_of(tensor) is None:
            raise LayoutError("the tensor is on the host")
        copy = HeldTensor(
            read_whole(tensor).clone(), tensor.dtype, tensor.layout, device_of(tensor), tensor.memory_config()
        )
        found.append(copy)
        return copy

    try:
        structure = _each(output, None, held)
    except LayoutError:
        return None
    return HeldOutput(structure) if found else None


def _each(value: Any, kind: type | None, change: Callable[[Any], Any]) -> Any:
    """`value` with `change` applied to each device tensor in it, or to each object of `kind`."""
    if is_device_tensor(value) if kind is None else isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return type(value)(**{name: _each(part, kind, change) for name, part in value.items()})
    if isinstance(value, (tuple, list)):
        parts = [_each(part, kind, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
