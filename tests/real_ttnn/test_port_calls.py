# SPDX-License-Identifier: Apache-2.0
"""Every call that our ports make on the emulator is taken by the real ttnn, whose results have the same form.

The calls were written down by call_recorder.py. Under a mock cluster each runs through all of the op's host code, from
its checks to the choice of its program; the result's shape, dtype, layout, memory layout and shards must be those that
the emulator gave. No kernel is compiled and no value is computed (see stand_in_compiler.py), so none is compared.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from described_tensors import describe

CALLS = (
    json.loads((Path(os.environ["TTTDEBUG_REAL_TTNN_CASES"]) / "calls.json").read_text())
    if os.environ.get("TTTDEBUG_REAL_TTNN_CASES")
    else {"none": []}
)
FEWEST_CALLS = 50  # of any recorded port: fewer would mean that the recording broke


class Replay:
    """The results of the calls so far, by number."""

    def __init__(self, ttnn: Any, device: Any) -> None:
        self._ttnn, self._device = ttnn, device
        self._results: dict[int, Any] = {}

    def make(self, call: dict[str, Any]) -> None:
        arguments = [self._read(value) for value in call["args"]]
        keywords = {name: self._read(value) for name, value in call["kwargs"].items()}
        if call["function"] in ("from_torch", "as_tensor"):
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


def place(ttnn, array, *, dtype=None, layout=None, device=None, memory_config=None):
    """What ttnn.from_torch does, of an array of numpy."""
    host = ttnn.Tensor(array.astype(np.uint32) if dtype in (ttnn.uint32, ttnn.uint16) else array)
    block = dtype in (ttnn.bfloat8_b, ttnn.bfloat4_b)
    if layout == ttnn.TILE_LAYOUT or block:
        host = host.to(ttnn.TILE_LAYOUT)
    if dtype is not None and host.dtype != dtype:
        host = ttnn.to_dtype(host, dtype=dtype)
    if device is None:
        return host
    return host.to(device, memory_config) if memory_config is not None else host.to(device)


@pytest.mark.parametrize("port", CALLS)
def test_the_real_package_takes_every_call_of(ttnn, device, port):
    assert len(CALLS[port]) >= FEWEST_CALLS
    replay = Replay(ttnn, device)
    for number, call in enumerate(CALLS[port]):
        try:
            replay.make(call)
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
            error.add_note(f"call {number} of {len(CALLS[port])}: {json.dumps(call)[:2000]}")
            raise
