# SPDX-License-Identifier: Apache-2.0
"""The engines that carry out a device's arithmetic: `ideal` without formats, `fast` with TTNN's, `exact` bit by bit."""

from __future__ import annotations

from collections.abc import Callable

from tttdebug.emulator.engines.base import Engine
from tttdebug.emulator.engines.ideal import IdealEngine
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import Arch

# The chip's arithmetic brings numba along, which is imported when it is needed.


def _fast(arch: Arch) -> Engine:
    from tttdebug.emulator.engines.chip import ChipEngine
    from tttdebug.emulator.engines.fast_units import FastUnits

    return ChipEngine("fast", arch, FastUnits(arch))


def _exact(arch: Arch) -> Engine:
    from tttdebug.emulator.engines.chip import ChipEngine
    from tttdebug.emulator.engines.exact_units import ExactUnits

    return ChipEngine("exact", arch, ExactUnits(arch))


ENGINES: dict[str, Callable[[Arch], Engine]] = {"ideal": IdealEngine, "fast": _fast, "exact": _exact}


def make_engine(name: str, arch: Arch) -> Engine:
    """The engine of that name for a chip. Raises EmulatorError when there is none."""
    if name not in ENGINES:
        raise EmulatorError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    return ENGINES[name](arch)


__all__ = ["ENGINES", "Engine", "make_engine"]
