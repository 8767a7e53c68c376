# SPDX-License-Identifier: Apache-2.0
"""Which golden an op has, by its name in ttnn."""

from __future__ import annotations

from tttdebug.tracking.op_goldens import GOLDENS, Golden
from tttdebug.tracking.op_goldens_attention import HEADS
from tttdebug.tracking.op_goldens_cache import CACHES
from tttdebug.tracking.op_goldens_collective import COLLECTIVES

_ON_ONE_DEVICE = {**GOLDENS, **HEADS, **CACHES}


def golden_of(name: str) -> Golden | None:
    """Our golden of an op on one device, or None."""
    return _ON_ONE_DEVICE.get(name)


def collective_golden_of(name: str) -> Golden | None:
    """Our golden of an op that moves values between devices, or None."""
    return COLLECTIVES.get(name)
