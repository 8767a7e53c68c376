# SPDX-License-Identifier: Apache-2.0
"""Reading a device tensor back as a torch tensor, without touching memory that was freed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tttdebug.errors import DeviceError

if TYPE_CHECKING:
    import torch


def is_device_tensor(value: Any) -> bool:
    """Whether `value` is a tensor of the emulator or of the real ttnn, on one device, a mesh, or their host."""
    return any(
        base.__name__ == "Tensor" and base.__module__.startswith(("tttdebug.emulator", "ttnn"))
        for base in type(value).__mro__
    )


def device_of(value: Any) -> Any:
    """The device that a tensor of ttnn lies on; None for a torch tensor, and for one on the host."""
    return value.device() if is_device_tensor(value) else None


def to_torch(value: Any) -> torch.Tensor:
    """The values of a torch, emulated or ttnn tensor as a torch tensor of its logical shape.

    A freed tensor is never read: on the real package that read ends the process. Raises DeviceError instead.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if not is_device_tensor(value):
        raise DeviceError(f"cannot read a {type(value).__name__} back as a tensor; give a torch or a ttnn tensor")
    if not value.is_allocated():
        raise DeviceError(
            f"a tensor of shape {tuple(value.shape)} was freed before it could be read; capture it before "
            "ttnn.deallocate"
        )
    return _namespace_of(value).to_torch(value)


def _namespace_of(tensor: Any) -> Any:
    if type(tensor).__module__.startswith("tttdebug.emulator"):
        from tttdebug.emulator import ttnn as emulated

        return emulated
    import ttnn

    return ttnn
