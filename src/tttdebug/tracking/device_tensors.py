# SPDX-License-Identifier: Apache-2.0
"""The device tensors that any object holds, found by walking its attributes, lists, tuples and dictionaries."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

from tttdebug.backends import is_device_tensor

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, ModuleType, FunctionType, MethodType)
_FOREIGN = ("torch", "numpy", "transformers", "ttnn", "tttdebug.emulator")
"""Packages whose objects hold no weights of a port: torch tensors, devices, configs."""


def tensors_held_by(port: Any) -> Iterator[tuple[str, Any]]:
    """Each device tensor once, with the shortest path to it.

    Properties are not evaluated. What TT-Transformers loads lazily is loaded: `load_device_weights()` and
    `get_device_weight()` are called where an object has them, as its first forward would.
    """
    waiting: deque[tuple[str, Any]] = deque([("", port)])
    seen: dict[int, Any] = {}  # the object too, so that no id is used again while the walk lasts
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen[id(value)] = value
        if is_device_tensor(value):
            yield path, value
        elif isinstance(value, dict):
            waiting.extend((_joined(path, key), item) for key, item in value.items())
        elif isinstance(value, (list, tuple, deque)):
            waiting.extend((_joined(path, i), item) for i, item in enumerate(value))
        elif not type(value).__module__.startswith(_FOREIGN):
            waiting.extend((_joined(path, name), item) for name, item in _attributes(value))


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    if callable(load := getattr(type(value), "load_device_weights", None)):
        load(value)
    if callable(place := getattr(type(value), "get_device_weight", None)):
        yield "", place(value)
        return
    yield from list(getattr(value, "__dict__", {}).items())
    for base in type(value).__mro__:
        slots = getattr(base, "__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _joined(path: str, step: Any) -> str:
    return path if step == "" else f"{path}.{step}" if path else str(step)
