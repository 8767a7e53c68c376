# SPDX-License-Identifier: Apache-2.0
"""TTNN's numerics in torch, behind a namespace with ttnn's names and signatures.

`from tttdebug.emulator import ttnn` gives that namespace; `open_device` a device with the engine, architecture and
compute grid of your choice; `install` puts the namespace where `import ttnn` finds it.
"""

from __future__ import annotations

from tttdebug.emulator import ttnn
from tttdebug.emulator.device import Device, OpRecord, close_device, open_device
from tttdebug.emulator.drop_in import install
from tttdebug.emulator.engines import ENGINES, Engine
from tttdebug.emulator.errors import EmulatorError, UnknownNameError
from tttdebug.emulator.real_names import NotEmulatedError
from tttdebug.emulator.tensor import Shape, Tensor

__all__ = [
    "ENGINES",
    "Device",
    "EmulatorError",
    "Engine",
    "NotEmulatedError",
    "OpRecord",
    "Shape",
    "Tensor",
    "UnknownNameError",
    "close_device",
    "install",
    "open_device",
    "ttnn",
]
