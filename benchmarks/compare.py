# SPDX-License-Identifier: Apache-2.0
"""How long `tttdebug compare` takes, from its start, on two runs of 100,000 records. Run: python benchmarks/compare.py

The runs are written here: a model of 30 layers, 7 boundaries a layer, 53 users, 8 decode steps and the prefill, with
errors that scatter from call to call and one layer that got worse. `--lines` takes the parquet files away, so that
the lines are read, as of runs that were cut short.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import MANIFEST, PARQUET
from tttdebug.tracking.writer import RunWriter

LAYERS, USERS, STEPS = 30, 53, 8
KINDS = ("input_norm", "k_cache", "v_cache", "self_attn", "post_attn_norm", "mlp", "layer_out")
WORSE = "L17.mlp"


def write_run(path: Path, seed: int, factor: float) -> int:
    """Write a run whose boundary `WORSE` errs so many times as much; the number of its records."""
    draw = random.Random(seed)
    model = {"name": "generated", "architecture": "Generated", "layers": LAYERS, "weights_digest": "0"}
    device = {"kind": "emulated", "engine": "fast", "architecture": "wormhole_b0", "grid": [8, 8]}
    prompts = tuple({"text": f"prompt {user}", "tokens": 64} for user in range(USERS))
    writer = RunWriter(path, Manifest("2026-01-01T00:00:00", model, device, "accuracy", prompts, STEPS))
    numbers: dict[str, object] = dict.fromkeys(Record.__dataclass_fields__, 0.5)
    said = {"mode": "accumulated", "module": "layers.0.mlp", "reference_path": "model.layers.0.mlp", "note": ""}
    said |= {"dtype": "bfloat16", "engine": "fast", "verdict": "ok"}
    places = {"shape": (64, 576), "adapters": ("squeeze",), "worst_token": 3}
    places |= {"nonfinite_reference": 0, "nonfinite_port": 0}
    for phase, step in (("prefill", 0), *(("decode", step) for step in range(STEPS))):
        for user in range(USERS):
            for layer in range(LAYERS):
                for kind in KINDS:
                    boundary = f"L{layer:02}.{kind}"
                    error = 0.01 * (1 + layer / 10) * draw.lognormvariate(0, 0.05)
                    call = {"boundary": boundary, "phase": phase, "step": step, "user": user}
                    error *= factor if boundary == WORSE else 1
                    writer.append(Record(**numbers | said | places | call | {"rel_l2": error}))
    return len(writer.finish().records)


def without_parquet(path: Path) -> None:
    """Take the parquet file out of a run, and its seal."""
    (path / PARQUET).unlink()
    manifest = Manifest.read(path / MANIFEST)
    seals = {name: seal for name, seal in manifest.seals.items() if name != PARQUET}
    replace(manifest, seals=seals).write(path / MANIFEST)


def best_seconds(command: list[str], repeats: int) -> tuple[str, str]:
    """Wall and CPU seconds of a command, from its start to its end; the best of so many."""
    wall, cpu = [], []
    for _ in range(repeats):
        started, spent = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        wall.append(time.perf_counter() - started)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime)
    return f"{min(wall):.2f}", f"{min(cpu):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lines", action="store_true")
    arguments = parser.parse_args()
    table = Table("what", "records", "seconds", "of CPU", title="tttdebug compare", title_justify="left")
    with TemporaryDirectory() as folder:
        runs = [Path(folder, name) for name in ("later", "earlier")]
        records = [write_run(path, seed, factor) for path, seed, factor in zip(runs, (1, 0), (1.5, 1.0), strict=True)]
        if arguments.lines:
            for path in runs:
                without_parquet(path)
        tttdebug = [sys.executable, "-m", "tttdebug.cli"]
        command = [*tttdebug, "compare", *map(str, runs)]
        table.add_row("start alone", "", *best_seconds([*tttdebug, "--help"], arguments.repeats))
        table.add_row("two runs", f"2 × {records[0]:,}", *best_seconds(command, arguments.repeats))
    Console().print(table)


if __name__ == "__main__":
    main()
