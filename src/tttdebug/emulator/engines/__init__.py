# SPDX-License-Identifier: Apache-2.0
"""The engines that carry out a device's arithmetic: `ideal` without formats, `fast` with TTNN's, `exact` bit by bit."""

from __future__ import annotations

from collections.abc import Callable

from tttdebug.emulator.engines.base import Engine
from tttdebug.emulator.engines.fast import FastEngine
from tttdebug.emulator.engines.ideal import IdealEngine
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import Arch


def _exact(arch: Arch) -> Engine:
    from tttdebug.emulator.engines.exact import ExactEngine  # numba is imported when it is needed

    return ExactEngine(arch)


ENGINES: dict[str, Callable[[Arch], Engine]] = {"ideal": IdealEngine, "fast": FastEngine, "exact": _exact}


def make_engine(name: str, arch: Arch) -> Engine:
    """The engine of that name for a chip. Raises EmulatorError when there is none."""
    if name not in ENGINES:
        raise EmulatorError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    return ENGINES[name](arch)


__all__ = ["ENGINES", "Engine", "make_engine"]
