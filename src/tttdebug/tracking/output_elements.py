# SPDX-License-Identifier: Apache-2.0
"""Which tensor of an output is meant: of a tuple, a list or a ModelOutput, by place or by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tttdebug.backends import is_device_tensor
from tttdebug.errors import PairingError


def element_of(output: Any, element: int | str | None, side: str) -> tuple[Any, tuple[str, ...]]:
    """The tensor at a place (or name) of an output, or the first one where none is given, and the adapter's name.

    Where there is no tensor to choose, the output itself, without an adapter. Raises PairingError when the output has
    no such element, or no tensor there.
    """
    if _is_tensor(output):
        if element in (None, 0):
            return output, ()
        raise PairingError(f"the {side} returned one tensor; the pair takes its element {element!r}")
    parts = _parts(output)
    if element is None:
        chosen = next((name for name, part in parts.items() if _is_tensor(part)), None)
        if chosen is None:
            return output, ()
    else:
        chosen = _named(parts, element)
        if chosen is None or not _is_tensor(parts[chosen]):
            offered = ", ".join(f"{name}: {type(part).__name__}" for name, part in parts.items()) or "nothing"
            raise PairingError(
                f"the {side} returned {type(output).__name__} with no tensor at {element!r}; it has {offered}"
            )
    return parts[chosen], (f"{side}_element {chosen} of {len(parts)}",) if len(parts) > 1 else ()


def _parts(output: Any) -> Mapping[int | str, Any]:
    if isinstance(output, Mapping):
        return output
    return dict(enumerate(output)) if isinstance(output, (tuple, list)) else {}


def _named(parts: Mapping[int | str, Any], element: int | str) -> int | str | None:
    """The key of an element; a place in a ModelOutput counts its fields."""
    if element in parts:
        return element
    return list(parts)[element] if isinstance(element, int) and 0 <= element < len(parts) else None


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) or is_device_tensor(value)
