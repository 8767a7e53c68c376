# SPDX-License-Identifier: Apache-2.0
"""A port's twin: the same modules in the same settings with the reference's own weights, on the emulator, so sound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tttdebug.backends import describe_device, open_device
from tttdebug.backends.devices import Engine
from tttdebug.modules.build import FamilyPort, build_model
from tttdebug.tracking.driving import driver_of
from tttdebug.tracking.pairing import pair_modules
from tttdebug.tracking.subject import Subject


def emulated_twin(subject: Subject, engine: Engine | None = None) -> Subject | None:
    """The twin of a port of `build_model` beside the same reference; None of any other port.

    It runs on `engine`, if not given on the port's own, or where the port is on a card on the one that gives the chip's
    bits.
    """
    port = subject.port
    if not isinstance(port, FamilyPort):
        return None
    here = describe_device(port.device)  # type: ignore[attr-defined]
    own = here.engine if here.runs_on == "emulator" else "exact"
    options: dict[str, Any] = {"engine": engine or own, "architecture": here.architecture, "grid": here.grid}
    device = open_device("emulated", **options)
    twin = build_model(subject.reference, device, hw_config=port.hw_config)  # type: ignore[attr-defined]
    return replace(
        subject,
        port=twin,
        driver=driver_of(twin, None, None),
        paired=tuple(pair_modules(twin, subject.reference.model, twin.pairs)),
        caches=tuple(twin.caches),
    )
