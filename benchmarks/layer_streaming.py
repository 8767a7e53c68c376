# SPDX-License-Identifier: Apache-2.0
"""Memory and time of a reference that is run a layer at a time: SmolLM2 in fp32, prefill and decode of some prompts.

Each way is a process of its own, so that its peak is its own; memory is what is added to that of the imports.
usage: python benchmarks/layer_streaming.py [PROMPTS] [TOKENS] [DECODE_STEPS]
"""

from __future__ import annotations

import json
import subprocess
import sys

from rich.console import Console
from rich.table import Table

ONE_WAY = """
import json, resource, sys, time
import torch, transformers
import transformers.models.llama.modeling_llama
from functools import partial
from tttdebug.references import load_reference
from tttdebug.references.smollm2 import smollm2_folder
from tttdebug.tracking.sides import TorchSide

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

stream, prompts, tokens, steps = sys.argv[1] == "streamed", *map(int, sys.argv[2:])
torch.set_num_threads(2)
folder, before, started = smollm2_folder(), peak(), time.perf_counter()
reference = load_reference("smollm2", stream=stream)
loaded, started = time.perf_counter() - started, time.perf_counter()
side = TorchSide(reference.model, {})
together = reference.stream.together if stream else lambda calls: [call() for call in calls]
ids = [[100 + (17 * user + 31 * place) % 40000 for place in range(tokens)] for user in range(prompts)]
made = together([partial(side.prefill, ids[user], user) for user in range(prompts)])
for step in range(steps):
    tokens_now = [int(forward.logits[-1].argmax()) for forward in made]
    made = together([partial(side.decode, tokens_now[user], user) for user in range(prompts)])
ran = time.perf_counter() - started
last = [forward.logits[-1].sum().item().hex() for forward in made]
print(json.dumps({"peak": peak() - before, "load": loaded, "run": ran, "last": last}))
"""


def one_way(way: str, numbers: list[int]) -> dict[str, object]:
    """Peak MiB above the imports, seconds of loading and of running, and the last logits' sums."""
    command = [sys.executable, "-c", ONE_WAY, way, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, object] = json.loads(done.stdout)
    return figures


def main(numbers: list[int]) -> None:
    prompts, tokens, steps = numbers
    table = Table(title=f"SmolLM2 in fp32, {prompts} prompts of {tokens} tokens, {steps} decode steps")
    table.add_column("reference")
    for title in ("peak, MiB", "load, s", "run, s"):
        table.add_column(title, justify="right")
    ways = {way: one_way(way, numbers) for way in ("whole", "streamed")}
    for way, found in ways.items():
        table.add_row(way, f"{found['peak']:.0f}", f"{found['load']:.2f}", f"{found['run']:.2f}")
    console = Console(width=100)
    console.print(table)
    same = ways["whole"]["last"] == ways["streamed"]["last"]
    console.print(f"the last logits are {'the same bit for bit' if same else 'NOT the same'}")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main([*given, *(2, 64, 2)[len(given) :]])
