# SPDX-License-Identifier: Apache-2.0
"""Opening a device and finding the ttnn namespace that belongs to it: the real package or the emulator."""

from tttdebug.backends.devices import (
    UNKNOWN,
    DeviceDescription,
    close_device,
    describe_device,
    is_device,
    namespace_of,
    open_device,
    opened_device,
)
from tttdebug.backends.readback import device_of, is_device_tensor, to_torch

__all__ = [
    "UNKNOWN",
    "DeviceDescription",
    "close_device",
    "describe_device",
    "device_of",
    "is_device",
    "is_device_tensor",
    "namespace_of",
    "open_device",
    "opened_device",
    "to_torch",
]
