# SPDX-License-Identifier: Apache-2.0
"""The engines that carry out the arithmetic of a device: `ideal` without formats, `fast` with TTNN's."""

from __future__ import annotations

from collections.abc import Callable

from tttdebug.emulator.engines.base import Engine
from tttdebug.emulator.engines.fast import FastEngine
from tttdebug.emulator.engines.ideal import IdealEngine
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import Arch

ENGINES: dict[str, Callable[[Arch], Engine]] = {"ideal": IdealEngine, "fast": FastEngine}


def make_engine(name: str, arch: Arch) -> Engine:
    """The engine of that name for a chip. Raises EmulatorError when there is none."""
    if name not in ENGINES:
        raise EmulatorError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    return ENGINES[name](arch)


__all__ = ["ENGINES", "Engine", "make_engine"]
