# SPDX-License-Identifier: Apache-2.0
"""How long each report of a run takes, and how large it is. Run: python benchmarks/reports.py

The run is generated, of SmolLM2's size: 30 layers, a prefill of 128 tokens and 8 decode steps, 1,917 comparisons and as
many records of modules alone, with a fault in one layer. Seconds are the best of `--repeats`, from the run's folder to
the report's file; the last column is the whole command in a process of its own, once.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.reporting.reports import TEXT_FORMATS, write_report
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Key, Record, without_metrics
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import ISOLATED, Run
from tttdebug.tracking.writer import RunWriter

LAYERS, TOKENS, STEPS, FAULTY = 30, 128, 8, 17
KINDS = ("input_norm", "k_cache", "v_cache", "self_attn", "post_attn_norm", "mlp", "layer_out")
BOUNDARIES = ("embed", *(f"L{layer:02d}.{kind}" for layer in range(LAYERS) for kind in KINDS), "final_norm", "logits")
AT_FAULT = f"L{FAULTY:02d}.mlp"


def generated_records() -> Iterator[Record]:
    """Seeded errors above a floor that grows with depth; ten times the floor from the fault on."""
    drawn = random.Random(0)
    for step in range(-1, STEPS):
        for place, boundary in enumerate(BOUNDARIES):
            floor = 0.01 * (1 + 3 * place / len(BOUNDARIES)) * drawn.lognormvariate(0, 0.3)
            broken = place >= BOUNDARIES.index(AT_FAULT)
            rel_l2 = floor * drawn.uniform(1.0, 1.6) * (10 if broken else 1)
            numbers = without_metrics((TOKENS if step < 0 else 1, 576))
            yield Record(
                boundary,
                **numbers | {"pcc": 1 - rel_l2**2 / 2, "rel_l2": rel_l2, "slope": 1 + rel_l2 / 10, "max_abs_diff": 9.1},
                mode="accumulated",
                phase="prefill" if step < 0 else "decode",
                step=max(step, 0),
                user=0,
                verdict="diverged" if broken else "ok",
                floor_rel_l2=floor,
                module=f"layers.{boundary}",
                reference_path=f"model.layers.{boundary}",
                dtype="bfloat16",
                adapters=("unpad_tokens 128→128",),
                engine="fast",
                seconds=0.004,
                note=f"pcc {1 - rel_l2**2 / 2:.6f} < 0.99" if broken else "",
            )


def token_lines() -> Iterator[dict[str, Any]]:
    """A line a position, the port's first choice another one at every fifth."""
    for position in range(TOKENS + STEPS):
        step = max(position - TOKENS, 0)
        choices = [[token, f" token{token}", 0.5 / (1 + token)] for token in range(5)]
        yield {
            "phase": "prefill" if position < TOKENS else "decode",
            "step": step,
            "user": 0,
            "position": position,
            "token": position,
            "text": f" token{position}",
            "reference_top": choices,
            "port_top": choices[position % 5 == 0 :] + choices[: position % 5 == 0],
            "kl": 0.01 * (position % 5 == 0),
            "margin": 0.3,
        }


def generated_run(folder: Path) -> Run:
    """An explained run in `folder`."""
    agreed = {"tokens": TOKENS, "top1": 0.8, "top5": 0.9, "kl_mean": 0.02, "kl_last": 0.01, "last_top1": True}
    manifest = Manifest(
        created="2026-11-25T03:23:07+00:00",
        model={"name": "generated", "source": "benchmarks/reports.py", "weights_digest": "0" * 64, "layers": LAYERS},
        device={"kind": "emulated", "engine": "fast", "architecture": "wormhole_b0", "grid": [8, 8]},
        precision="accuracy",
        prompts=({"text": "token " * TOKENS, "tokens": TOKENS},),
        decode_steps=STEPS,
        expected=len(BOUNDARIES) * (1 + STEPS),
        agreement={"prefill": agreed | {"last_top5": 1.0}},
    )
    writer = RunWriter(folder, manifest)
    for record in generated_records():
        writer.append(record)
    writer.append_tokens(list(token_lines()))
    reopened = ReopenedRun(writer.finish())
    verdicts: dict[Key, str] = {}
    for record in writer.records:
        own = record.rel_l2 if record.boundary == AT_FAULT else record.floor_rel_l2
        alone = replace(record, mode=ISOLATED, rel_l2=own, pcc=1 - own**2 / 2, note="", verdict="ok")
        reopened.append(alone)
        if record.boundary == AT_FAULT:
            verdicts |= {record.key: "injected", alone.key: "injected"}
        elif record.failed:
            verdicts[record.key] = "inherited"
    finding = Finding(
        AT_FAULT,
        "weights_exchanged",
        "gate (w1) and up (w3) are exchanged",
        experiments=(Experiment("gate (w1) and up (w3) are exchanged", 0.871, 0.0188, 0.0155),),
        fix=Fix("exchange w1 and w3"),
        records=tuple(key for key in verdicts if key.mode == ISOLATED),
        share=0.92,
    )
    return reopened.finish(verdicts, [finding.to_json()], [])


def seconds_of(folder: Path, format_: str, out: Path, repeats: int) -> float:
    """The best of several times from the run's files to the report's."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        write_report(Run.load(folder), format_, out)
        best = min(best, time.perf_counter() - start)
    return best


def seconds_of_command(folder: Path, format_: str, out: Path) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "tttdebug.cli", "report", str(folder), "--format", format_, "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    table = Table(box=None, header_style="bold")
    for column in ("report", "seconds", "kB", "whole command, s"):
        table.add_column(column, justify="left" if column == "report" else "right")
    with TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "run", Path(temporary) / "report"
        run = generated_run(folder)
        for format_ in TEXT_FORMATS:
            seconds = seconds_of(folder, format_, out, arguments.repeats)
            command = seconds_of_command(folder, format_, out)
            table.add_row(format_, f"{seconds:.2f}", f"{out.stat().st_size / 1e3:,.0f}", f"{command:.1f}")
    Console().print(f"{len(run.records):,} comparisons, {len(run.experiments):,} of modules alone", table)


if __name__ == "__main__":
    main()
