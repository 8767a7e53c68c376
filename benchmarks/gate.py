# SPDX-License-Identifier: Apache-2.0
"""How long `tttdebug gate` takes on a large run. Run: python benchmarks/gate.py [--records 100000]

The run is made up: layers of a Llama in prefill and decode, with error profiles and calls as tracking writes them. The
command runs in a process of its own, once as it is and once against itself as the baseline. `--lines` leaves the
parquet file away, so that the lines are read, as of runs that were cut short.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import CALLS, MANIFEST, PROFILES, RECORDS, SEALED, Run, write_parquet
from tttdebug.tracking.run_files import seals_of

LAYERS, PROMPT_TOKENS = 32, 128
KINDS = ("input_norm", "self_attn", "k_cache", "v_cache", "post_attn_norm", "mlp", "layer_out")
BOUNDARIES = ("embed", *(f"L{i:02}.{kind}" for i in range(LAYERS) for kind in KINDS), "final_norm", "logits")


def write_run(folder: Path, records: int, *, parquet: bool) -> None:
    """A finished run of at least so many records, whole steps of them, all within the default thresholds."""
    steps = math.ceil(records / len(BOUNDARIES)) - 1
    made = [record_of(boundary, step) for step in range(-1, steps) for boundary in BOUNDARIES]
    worst: list[object] = [[[i, 7], 0.5, 0.501] for i in range(16)]
    profile: dict[str, list[object]] = {
        "token_rel_l2": [0.001],
        "token_pcc": [0.99999],
        "error_edges": [0.0],
        "error_counts": [],
        "worst": worst,
    }
    with (folder / RECORDS).open("w") as lines, (folder / PROFILES).open("w") as profiles:
        for record in made:
            lines.write(json.dumps(record.to_json()) + "\n")
            profiles.write(json.dumps({"key": vars(record.key), "profile": profile}) + "\n")
    with (folder / CALLS).open("w") as calls:
        for record in made:
            if not record.boundary.endswith("_cache"):
                calls.write(json.dumps(call_of(record)) + "\n")
    manifest = Manifest(
        created="",
        model={"name": "made up", "weights_digest": "0" * 64},
        device={},
        precision="accuracy",
        prompts=({"text": "made up", "tokens": PROMPT_TOKENS},),
        decode_steps=steps,
    )
    manifest = replace(manifest, status="finished", expected=len(made), compared=len(made))
    if parquet:
        write_parquet(Run(folder, manifest, made))
    replace(manifest, seals=seals_of(folder, SEALED)).write(folder / MANIFEST)


def record_of(boundary: str, step: int) -> Record:
    """A record of a prefill, step −1, or of a decode step."""
    decode = step >= 0
    shape = (1 if decode else PROMPT_TOKENS, 4096)
    values = {"pcc": 0.99987654321, "max_abs_diff": 0.0123456789, "slope": 1.00012345, "norm_ratio": 1.00023456}
    values |= {"rel_l2": 0.0157123456, "cosine": 0.9998765, "mean_abs": 0.000123456, "rmse": 0.00023456}
    values |= {"ulp_p50": 3.0, "ulp_p99": 120.0, "ulp_max": 20000.0, "worst_token_pcc": 0.999, "last_token_pcc": 0.9995}
    return Record(
        boundary=boundary,
        shape=shape,
        mode="accumulated",
        phase="decode" if decode else "prefill",
        step=max(step, 0),
        user=0,
        verdict="ok",
        worst_token=0,
        nonfinite_reference=0,
        nonfinite_port=0,
        floor_rel_l2=0.0123,
        module=f"layers.{boundary}",
        reference_path=f"model.layers.{boundary}",
        dtype="bfloat16",
        adapters=("[1, 1, 32, 4096] → [1, 4096]",),
        engine="fast",
        seconds=0.00123456,
        **values,
    )


def call_of(record: Record) -> dict[str, object]:
    """What a module was told in that call."""
    positions = [PROMPT_TOKENS + record.step] if record.phase == "decode" else None
    return {
        "boundary": record.boundary,
        "module": record.module,
        "phase": record.phase,
        "step": record.step,
        "call": 1,
        "mode": record.phase,
        "entry": f"{record.phase}_forward",
        "user": None,
        "positions": positions,
        "chunk_start": None,
        "batch_size": None,
        "rotary": [[1, 1, 32, 128], [1, 1, 32, 128]],
        "within": [],
        "page_table": None,
    }


def seconds_of(*arguments: str) -> float:
    """Wall time of the command. Raises CalledProcessError unless the gate passes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tttdebug.cli", "gate", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lines", action="store_true")
    options = parser.parse_args()
    table = Table("gate", "best of", "seconds")
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), options.records, parquet=not options.lines)
        for name, more in (("as it is", ()), ("with itself as the baseline", ("--baseline", folder))):
            best = min(seconds_of(folder, *more) for _ in range(options.repeats))
            table.add_row(name, str(options.repeats), f"{best:.2f}")
    Console().print(f"{options.records:,} records", table)


if __name__ == "__main__":
    main()
