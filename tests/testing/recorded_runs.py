# SPDX-License-Identifier: Apache-2.0
"""Runs of a model that nobody ran: records with given errors, written as a run writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import ACCUMULATED, Run
from tttdebug.tracking.writer import RunWriter

MODEL = {"name": "tiny", "source": "made here", "layers": 4, "architecture": "Tiny", "weights_digest": "ab"}
DEVICE = {"kind": "emulated", "engine": "fast", "architecture": "wormhole_b0", "grid": [8, 8]}
PROMPTS = ({"text": "a", "tokens": 40}, {"text": "b", "tokens": 41})
KINDS = ("self_attn", "mlp", "layer_out")


def errors_of(*, users: int = 2, steps: int = 8, layers: int = 4) -> dict[Key, float]:
    """A rel_l2 for every call, growing with depth and different in every step."""
    calls = [("prefill", 0)] + [("decode", step) for step in range(steps)]
    return {
        Key(f"L{layer:02}.{kind}", phase, step, user): 0.01 * (1 + layer) * (1 + 0.3 * math.sin(7 * step + user))
        for phase, step in calls
        for user in range(users)
        for layer in range(layers)
        for kind in KINDS
    }


def record_of(key: Key, rel_l2: float, verdict: str = "ok") -> Record:
    numbers = dict.fromkeys(Record.__dataclass_fields__, 0.0)
    texts = {"module": "m", "reference_path": "r", "dtype": "bfloat16", "engine": "fast", "note": ""}
    places = {"worst_token": 0, "nonfinite_reference": 0, "nonfinite_port": 0, "shape": (40, 8), "adapters": ()}
    return Record(**numbers | texts | places | vars(key) | {"rel_l2": rel_l2, "verdict": verdict})


def recorded(
    path: Path, errors: Mapping[Key, float], verdicts: Mapping[Key, str] | None = None, **manifest: object
) -> Path:
    """The folder of a finished run with these errors."""
    records = [record_of(key, rel_l2, (verdicts or {}).get(key, "ok")) for key, rel_l2 in errors.items()]
    experiments = [record for record in records if record.mode != ACCUMULATED]
    expected = len(records) - len(experiments)
    said = Manifest("2026-01-01T00:00:00", MODEL, DEVICE, "bf16", PROMPTS, 8, expected=expected)
    writer = RunWriter(path, replace(said, **manifest))
    for record in records:
        if record.mode == ACCUMULATED:
            writer.append(record)
    run: Run = writer.finish()
    if experiments:
        reopened = ReopenedRun(run)
        for record in experiments:
            reopened.append(record)
        reopened.finish({}, [], [])
    return run.path
