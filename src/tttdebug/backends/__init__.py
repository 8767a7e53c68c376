# SPDX-License-Identifier: Apache-2.0
"""Opening a device and finding the ttnn namespace that belongs to it: the real package or the emulator."""

from tttdebug.backends.devices import (
    UNKNOWN,
    DeviceDescription,
    close_device,
    describe_device,
    is_device,
    is_emulated,
    namespace_of,
    open_device,
    opened_device,
)
from tttdebug.backends.meshes import mesh_shape, read_device_name
from tttdebug.backends.readback import (
    describe_topology,
    device_of,
    device_tensors,
    is_device_tensor,
    to_numpy,
    to_torch,
    unreadable,
)

__all__ = [
    "UNKNOWN",
    "DeviceDescription",
    "close_device",
    "describe_device",
    "describe_topology",
    "device_of",
    "device_tensors",
    "is_device",
    "is_device_tensor",
    "is_emulated",
    "mesh_shape",
    "namespace_of",
    "open_device",
    "opened_device",
    "read_device_name",
    "to_numpy",
    "to_torch",
    "unreadable",
]
