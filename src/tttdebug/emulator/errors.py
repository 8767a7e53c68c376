# SPDX-License-Identifier: Apache-2.0
"""The errors of the emulator: each names the operation, the argument, the value and the rule it breaks."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EmulatorError(RuntimeError):
    """TTNN would refuse this, or the emulator cannot do it; it never does something else instead."""


class UnknownNameError(EmulatorError, AttributeError):
    """The emulated namespace has no such name."""


def unknown_name(namespace: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for `namespace.name`, with the nearest names that exist."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.6)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return UnknownNameError(f"{namespace}.{name} is not emulated{hint}")
