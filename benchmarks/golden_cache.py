# SPDX-License-Identifier: Apache-2.0
"""What the golden cache saves: SmolLM2, seconds of `track` without it, keeping goldens, and reading them.

Each is the median of several rounds in one process, weights in the cache; nothing is asserted.
usage: python benchmarks/golden_cache.py [TOKENS] [DECODE_STEPS] [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(tokens: int, steps: int, rounds: int) -> None:
    import tttdebug as td
    from tttdebug.references.digest import digest_of_held
    from tttdebug.tracking.prompts import default_prompt
    from tttdebug.tracking.sides import TorchSide

    torch.set_num_threads(2)
    reference = td.load_reference("smollm2")
    token_ids = (reference.tokenizer.encode(default_prompt()) * (1 + tokens // 100))[:tokens]
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    seconds: dict[str, list[float]] = {}

    def track(cache: td.GoldenCache | None) -> None:
        td.track(port, reference, [token_ids], decode_steps=steps, save_tensors="none", golden_cache=cache)

    def run_reference() -> None:
        side = TorchSide(reference.model, {})
        forward = side.prefill(token_ids, 0)
        for _ in range(steps):
            forward = side.decode(int(forward.logits[-1].argmax()), 0)

    size = 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            cache = td.GoldenCache(Path(folder), limit=2**40)
            for name, work in {
                "track without a golden": lambda: track(None),
                "track that keeps a golden": lambda cache=cache: track(cache),
                "track that reads it": lambda cache=cache: track(cache),
                "of that: digest of the weights in memory": lambda: digest_of_held(reference.model),
                "of that: digest of the golden": lambda cache=cache: list(cache.verified()),
                "the reference alone": run_reference,
            }.items():
                seconds.setdefault(name, []).append(timed(work))
            size = sum(kept.bytes for kept in cache.kept())

    table = Table(title=f"SmolLM2, {tokens} tokens, {steps} decode steps, {torch.get_num_threads()} threads")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for name, values in seconds.items():
        table.add_row(name, f"{statistics.median(values):.2f}")
    table.add_row("size of the golden", f"{size / 2**20:.0f} MiB")
    Console(width=100).print(table)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*given, *(128, 8, 3)[len(given) :])
