# SPDX-License-Identifier: Apache-2.0
"""Makes the calls that call_recorder.py wrote down on the real ttnn, and compares the form of what each one gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from described_tensors import describe


class Replay:
    """The results of the calls so far, by number."""

    def __init__(self, ttnn: Any, device: Any) -> None:
        self._ttnn, self._device = ttnn, device
        self._results: dict[int, Any] = {}

    def make(self, call: dict[str, Any], number: int) -> None:
        """Make one call. Whatever ttnn or the comparison raises says which call of how it was recorded it was."""
        try:
            self._make(call)
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
            error.add_note(f"call {number}: {json.dumps(call)[:2000]}")
            raise

    def _make(self, call: dict[str, Any]) -> None:
        arguments = [self._read(value) for value in call["args"]]
        keywords = {name: self._read(value) for name, value in call["kwargs"].items()}
        if call["function"] in ("from_torch", "as_tensor"):
            if call["function"] == "as_tensor" and "device" in keywords:
                assert keywords.get("memory_config") is not None, "ttnn.as_tensor with a device takes a memory_config"
            result = place(self._ttnn, *arguments, **keywords)
        else:
            result = self._named(call["function"])(*arguments, **keywords)
        self._keep(call["gives"], result, call["function"])

    def _keep(self, expected: Any, result: Any, function: str) -> None:
        if isinstance(expected, list):
            assert len(result) == len(expected), f"ttnn.{function} gives {len(result)} tensors, not {len(expected)}"
            for part, of_result in zip(expected, result, strict=True):
                self._keep(part, of_result, function)
            return
        self._results[expected["number"]] = result
        if "tensor" in expected:
            assert describe(result) == expected["tensor"], f"ttnn.{function} gives another tensor than the emulator"

    def _read(self, written: Any) -> Any:
        if not isinstance(written, dict):
            return written
        match next(iter(written)):
            case "result":
                return self._results[written["result"]]
            case "constant":
                return self._named(written["constant"])
            case "device":
                return self._device
            case "core":
                return self._ttnn.CoreCoord(*written["core"])
            case "memory_of":
                return self._results[written["memory_of"]].memory_config()
            case "sequence":
                return [self._read(part) for part in written["sequence"]]
            case "array":
                values = written.get("values")
                if values is None:
                    return np.zeros(written["array"], np.float32)
                return np.array(values, np.int32).reshape(written["array"])
        raise AssertionError(f"call_recorder.py wrote {written}, which nothing here reads")

    def _named(self, dotted: str) -> Any:
        value = self._ttnn
        for name in dotted.split("."):
            value = getattr(value, name)
        return value


def place(ttnn, array, *, dtype=None, layout=None, device=None, memory_config=None, mesh_mapper=None):
    """What ttnn.from_torch does, of an array of numpy."""
    host = ttnn.Tensor(array.astype(np.uint32) if dtype in (ttnn.uint32, ttnn.uint16) else array)
    if mesh_mapper is not None:
        host = ttnn.distribute_tensor(host, mesh_mapper)
    block = dtype in (ttnn.bfloat8_b, ttnn.bfloat4_b)
    if layout == ttnn.TILE_LAYOUT or block:
        host = host.to(ttnn.TILE_LAYOUT)
    if dtype is not None and host.dtype != dtype:
        host = ttnn.to_dtype(host, dtype=dtype)
    if device is None:
        return host
    return host.to(device, memory_config) if memory_config is not None else host.to(device)
