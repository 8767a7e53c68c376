# SPDX-License-Identifier: Apache-2.0
"""TTNN's numerics bit by bit: the kernels of the `fast` engine on units that round where the chip's do."""

from __future__ import annotations

from tttdebug.emulator.engines.exact_units import ExactUnits
from tttdebug.emulator.engines.fast import FastEngine
from tttdebug.emulator.kernel import Arch


class ExactEngine(FastEngine):
    """The engine that gives the chip's own numbers."""

    name = "exact"

    def __init__(self, arch: Arch) -> None:
        super().__init__(arch)
        self._use(ExactUnits(arch))
