# SPDX-License-Identifier: Apache-2.0
"""A bundle made by hand, of one addition, whose names are whatever somebody put into a run."""

from __future__ import annotations

from pathlib import Path

import torch

from tttdebug.bundles.bundle import Bundle
from tttdebug.bundles.capture import Captured, WhichCall
from tttdebug.bundles.case import Case, seen
from tttdebug.bundles.program import Leaf, Op, Program, Value
from tttdebug.bundles.recording import identifier
from tttdebug.bundles.shrinking import Shrunk
from tttdebug.bundles.standalone import EmulatedOn
from tttdebug.emulator import open_device, ttnn
from tttdebug.tracking import Run
from tttdebug.tracking.manifest import Manifest

HOSTILE = '../../x"""\n__import__("os").abort()\n<img src=x onerror=alert(1)>`'


def small_bundle(name: str = "L00.sum") -> Bundle:
    a, b = (torch.full((1, 1, 32, 32), value, dtype=torch.bfloat16) for value in (1.0, 2.0))
    leaves = {
        number: Leaf(identifier(f"{name}.{number}"), "weight", values, "bfloat16", "TILE", ttnn.DRAM_MEMORY_CONFIG)
        for number, values in enumerate((a, b))
    }
    program = Program(leaves, (Op("ttnn.add", (Value(0), Value(1)), {}, (2,)),), 2)
    case = Case(program, torch.full((32, 32), 4.0), torch.arange(1024).reshape(32, 32), 0.01, 0.002)
    device = open_device()
    given = seen(case, device)
    call = WhichCall(name)
    captured = Captured(
        call, name, name, device, 0, program, case.golden_TC, None, None, case.places_TC, lambda tokens: None, (name,)
    )
    manifest = Manifest("", {"name": name}, {"kind": name, "grid": [8, 8]}, name, (), 0)
    run = Run(Path("nowhere"), manifest, [])
    return Bundle(
        captured, given, Shrunk(case, given, None, (), (name,)), run, EmulatedOn("fast", "wormhole_b0", (8, 8))
    )
