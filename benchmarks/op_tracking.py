# SPDX-License-Identifier: Apache-2.0
"""What recording an op costs before anything is compared: `python benchmarks/op_tracking.py`.

A multiplication of one tile on the emulated device, called inside a tracked module: plain, with its record written
(arguments, settings, plan, one line on disk), and with its golden too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch

import tttdebug as td
from tttdebug.emulator import ttnn
from tttdebug.tracking.calls import Call
from tttdebug.tracking.hooks import PortTap
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.op_tracking import OpTracker, ops_recorded
from tttdebug.tracking.writer import RunWriter

OPS, ROUNDS = 200, 15
TARGET = 100  # microseconds


class Module:
    """A module of many small ops."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def forward(self) -> None:
        for _ in range(OPS):
            ttnn.multiply(self.x, self.x)


def microseconds(run: Callable[[], None]) -> float:
    """Median time of an op."""
    run()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) / OPS * 1e6)
    return statistics.median(times)


def measured(module: Module, *, compare: bool) -> float:
    """The same with every op recorded in a run."""
    with TemporaryDirectory() as folder:
        manifest = Manifest("", {}, {}, "", (), 0)
        writer = RunWriter(Path(folder) / "run", manifest)
        call = Call("prefill", 0, {0: SimpleNamespace()})  # type: ignore[dict-item]
        tap = PortTap({"L00.mlp": module}, lambda boundary, output, seconds: None)
        tracker = OpTracker(writer, lambda: call, compare=compare)
        with tap, ops_recorded(tracker, tap):
            took = microseconds(lambda: module.forward())
        writer.finish()
    return took


def main() -> None:
    torch.set_num_threads(1)
    device = td.open_device("emulated")
    x = ttnn.from_torch(torch.randn(1, 1, 32, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    module = Module(x)
    plain = microseconds(module.forward)
    recorded = measured(module, compare=False)
    compared = measured(module, compare=True)
    print(f"{'an op':36}{'µs':>10}{'more, µs':>12}")
    print(f"{'plain':36}{plain:10.1f}")
    print(f"{'recorded (target: under ' + str(TARGET) + ' more)':36}{recorded:10.1f}{recorded - plain:12.1f}")
    print(f"{'recorded and compared':36}{compared:10.1f}{compared - plain:12.1f}")


if __name__ == "__main__":
    main()
