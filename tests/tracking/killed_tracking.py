# SPDX-License-Identifier: Apache-2.0
"""Tracks a tiny model again and again, each time in a process of its own that is killed at a random moment.

Usage: killed_tracking.py FOLDER TIMES SEED. Prints a JSON line a run: its folder, and the records that were reported
before it was killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.tracking.writer import RunWriter

torch.set_num_threads(1)  # a forked process has no other threads


def track_and_report(out: Path, pipe: int) -> None:
    """Track, and say of every record when it is reported."""
    append = RunWriter.append

    def reporting(writer, record, profile=None):
        append(writer, record, profile)
        os.write(pipe, f"{record.key}\n".encode())

    RunWriter.append = reporting
    reference = td.load_reference(tiny_llama(3, num_hidden_layers=1))
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    td.track(port, reference, [list(range(3, 12))], decode_steps=6, out=out, save_tensors="all")


def killed_after(out: Path, reports: int, seconds: float) -> list[str]:
    """The records reported by a process that is killed so many seconds after so many reports, or at its end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        track_and_report(out, writer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        reported = [pipe.readline() for _ in range(reports)]
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        reported += pipe.readlines()
    os.waitpid(child, 0)
    return [line.strip() for line in reported if line]


def main() -> None:
    folder, times, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    records = 70
    for number in range(times):
        reports = draw.choice([0, records - 1, records, draw.randrange(records)])
        reported = killed_after(folder / f"{number}", reports, draw.uniform(0, 0.02 if reports else 1.5))
        print(json.dumps({"run": str(folder / f"{number}"), "reported": reported}), flush=True)


if __name__ == "__main__":
    main()
