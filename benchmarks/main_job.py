# SPDX-License-Identifier: Apache-2.0
"""Time and memory of the main job: SmolLM2, a prompt of 128 tokens, 8 decode steps, weights in the cache.

Ratios compare things timed in turn in one process, the median of several rounds; nothing here is asserted.
usage: python benchmarks/main_job.py [ROUNDS]
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

TOKENS, DECODE_STEPS = 128, 8


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, run one after the other, round by round, after a first round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name, work in works.items():
            spent = timed(work)
            if round_:
                seconds[name].append(spent)
    return {name: statistics.median(values) for name, values in seconds.items()}


def command_and_memory(prompt: str) -> tuple[float, float]:
    """Wall seconds and peak GiB of `tttdebug run` as a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tttdebug.cli", "run", "--quiet", "--prompt", prompt, "--out", f"{folder}/run"]
        command += ["--decode-steps", str(DECODE_STEPS)]
        seconds = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main(rounds: int) -> None:
    import tttdebug as td
    from tttdebug.modules.rotary_embedding import TILE
    from tttdebug.tracking.floor import floor_model
    from tttdebug.tracking.prompts import default_prompt

    torch.set_num_threads(2)
    imports = statistics.median(
        timed(lambda: subprocess.run([sys.executable, "-c", "import tttdebug"], check=True)) for _ in range(rounds)
    ) - statistics.median(timed(lambda: subprocess.run([sys.executable, "-c", ""], check=True)) for _ in range(rounds))

    reference = td.load_reference("llama")
    token_ids = (reference.tokenizer.encode(default_prompt()) * 2)[:TOKENS]
    # while this process is smaller than the command's: a child's peak is at least what its parent has
    wall, memory = command_and_memory(reference.tokenizer.decode(token_ids))
    port = td.build_model(reference, td.open_device("emulated"), "accuracy")
    port.allocate_cache(1, TOKENS + TILE)

    def build_floor() -> torch.nn.Module:
        return floor_model(reference.model, port.declared_weights(reference.model.state_dict()))

    floor = build_floor()
    ids_1S = torch.tensor([token_ids])

    @torch.no_grad()
    def forward(model: torch.nn.Module) -> None:
        model(ids_1S, use_cache=True)

    seconds = in_turn(
        {
            "Hugging Face fp32 forward": lambda: forward(reference.model),
            "floor, its weights, once a run": build_floor,
            "floor, bfloat16 forward": lambda: forward(floor),
            "emulated prefill": lambda: port.prefill(ids_1S[0]),
            "tracked prefill, all of it": lambda: td.track(port, reference, [token_ids], save_tensors="none"),
        },
        rounds,
    )
    base = seconds["Hugging Face fp32 forward"]
    untracked = base + seconds["emulated prefill"]

    table = Table(title=f"SmolLM2, {TOKENS} tokens, accuracy, {torch.get_num_threads()} threads")
    for title in ("what", "seconds", "ratio"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for name, spent in seconds.items():
        table.add_row(name, f"{spent:.3f}", f"{spent / base:.2f} of the fp32 forward")
    floors = seconds["floor, its weights, once a run"] + seconds["floor, bfloat16 forward"]
    added = seconds["tracked prefill, all of it"] - floors - untracked
    share = f"{added / untracked:.0%} of both forwards"
    table.add_row("tracking: hooks, metrics, files", f"{added:.3f}", share)
    table.add_row(f"tttdebug run, {DECODE_STEPS} decode steps", f"{wall:.1f}", f"peak {memory:.2f} GiB")
    table.add_row("import tttdebug", f"{imports:.3f}", "")
    Console(width=110).print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
