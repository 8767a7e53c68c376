# SPDX-License-Identifier: Apache-2.0
"""Writes down every call that a port makes of ttnn on the emulator, so that the real package can be given the same.

A recorded call names its function and says how each argument came about: a constant of ttnn by its name, the result of
an earlier call by its number, an array by its shape (and its values where it holds integers). What the emulator gave
back is described beside it.
"""

from __future__ import annotations

from enum import EnumMeta
from types import ModuleType
from typing import Any

import torch
from described_tensors import describe

from tttdebug.emulator import Tensor
from tttdebug.emulator.device import Device
from tttdebug.emulator.placement import CoreCoord, MemoryConfig

SILENT = {"to_torch"}  # what reads results back, and is no part of the port's own work


class CallRecorder:
    """Stands in the place of the emulator's namespace; `calls` is what was called so far."""

    def __init__(self, namespace: ModuleType) -> None:
        self.calls: list[dict[str, Any]] = []
        self._constants: dict[int, str] = {}
        self._results: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no other object gets the identity of one that was seen
        self._namespace = namespace
        for kind in ("DataType", "Layout"):  # tensors hand these out without the namespace being asked
            for member in getattr(namespace, kind):
                self._constants[id(member)] = f"{kind}.{member.name}"

    def __getattr__(self, name: str) -> Any:
        return _Part(self, "", self._namespace).__getattr__(name)

    def constant(self, name: str, value: Any) -> Any:
        if not isinstance(value, (int, float, str)):
            self._constants[id(value)] = name
            self._kept.append(value)
        return value

    def call(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in SILENT:
            return function(*args, **kwargs)
        entry: dict[str, Any] = {
            "function": name,
            "args": [self._written(value) for value in args],
            "kwargs": {key: self._written(value) for key, value in kwargs.items()},
        }
        result = function(*args, **kwargs)
        entry["gives"] = self._numbered(result)
        self.calls.append(entry)
        return result

    def _numbered(self, result: Any) -> Any:
        """The tensors of a result described and numbered; anything else is numbered only."""
        if isinstance(result, (list, tuple)) and any(isinstance(part, Tensor) for part in result):
            return [self._numbered(part) for part in result]
        number = len(self._kept)
        self._results[id(result)] = number
        self._kept.append(result)
        return {"number": number} | ({"tensor": describe(result)} if isinstance(result, Tensor) else {})

    def _written(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if id(value) in self._results:
            return {"result": self._results[id(value)]}
        if id(value) in self._constants:
            return {"constant": self._constants[id(value)]}
        if isinstance(value, Device):
            return {"device": True}
        if isinstance(value, torch.Tensor):
            whole = not value.is_floating_point()
            return {"array": list(value.shape)} | ({"values": value.flatten().tolist()} if whole else {})
        if isinstance(value, CoreCoord):
            return {"core": [value.x, value.y]}
        if isinstance(value, MemoryConfig):
            return {"memory_of": self._owner_of(value)}
        if isinstance(value, (list, tuple)):
            return {"sequence": [self._written(part) for part in value]}
        raise TypeError(f"a port gives ttnn a {type(value).__name__} that did not come from ttnn: {value!r}")

    def _owner_of(self, memory: MemoryConfig) -> int:
        """The latest tensor that lies as `memory` says: a port asks a tensor for its memory config to return to it."""
        for value in reversed(self._kept):
            if isinstance(value, Tensor) and value.memory_config() is memory:
                return self._results[id(value)]
        raise TypeError(f"a port gives ttnn a memory config that no tensor of it has: {memory!r}")


class _Part:
    """A part of the namespace, or an enum in it."""

    def __init__(self, recorder: CallRecorder, name: str, value: Any) -> None:
        self._recorder, self._name, self._value = recorder, name, value

    def __getattr__(self, name: str) -> Any:
        dotted, value = f"{self._name}.{name}".lstrip("."), getattr(self._value, name)
        if isinstance(value, (ModuleType, EnumMeta)) or type(value).__name__ == "_Part":
            return _Part(self._recorder, dotted, value)
        if callable(value):
            return lambda *args, **kwargs: self._recorder.call(dotted, value, args, kwargs)
        return self._recorder.constant(dotted, value)
