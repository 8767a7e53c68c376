# SPDX-License-Identifier: Apache-2.0
"""How long a reference takes to load, and how exact its attention is in fp32. Run: python benchmarks/load_reference.py

Every load is a process of its own, so that imports and peak memory are its own too. The download is left out: the
package's GGUF file is fetched before, and the conversion is timed in a cache that holds nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tttdebug.references import load_reference
from tttdebug.references.smollm2 import smollm2_folder, smollm2_gguf

ONE_LOAD = """
import json, resource, sys, time
start = time.perf_counter()
import torch, transformers
from transformers import AutoTokenizer, LlamaForCausalLM
imported = time.perf_counter()
from tttdebug.references import load_reference
load_reference(sys.argv[1], weights=sys.argv[2] or None)
loaded = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"imports": imported - start, "load": loaded - imported, "peak": peak}))
"""


def one_load(cache: Path, weights: Path | str = "") -> dict[str, float]:
    """Seconds of the imports and of load_reference, and the peak memory in GiB, in a new process."""
    environment = {**os.environ, "TTTDEBUG_CACHE": str(cache)}
    command = [sys.executable, "-c", ONE_LOAD, "smollm2", str(weights)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def best(cache: Path, weights: Path | str, repeats: int) -> dict[str, float]:
    return min((one_load(cache, weights) for _ in range(repeats)), key=lambda figures: figures["load"])


def loads(repeats: int) -> Table:
    """The routes to the default model, the slowest first."""
    table = Table("route", "imports, s", "load, s", "peak memory, GiB", title="load_reference, SmolLM2-135M-Instruct")
    gguf, folder = smollm2_gguf(), smollm2_folder()
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(temporary)
        shutil.copytree(gguf.parent, cache / gguf.parent.name)
        routes = {
            "cold: GGUF converted into the cache": one_load(cache),
            "--weights FILE.gguf": best(folder.parent, gguf, repeats),
            "--weights FOLDER, with its digest": best(folder.parent, folder, repeats),
            "warm: from the cache": best(folder.parent, "", repeats),
        }
    for route, figures in routes.items():
        table.add_row(route, f"{figures['imports']:.2f}", f"{figures['load']:.2f}", f"{figures['peak']:.2f}")
    return table


def attention(tokens: int) -> Table:
    """Last hidden states in fp32 against float64, for both forms of attention."""
    table = Table("attention", "rel_l2", "max_abs_diff", title=f"fp32 against float64, {tokens} tokens")
    model = load_reference("smollm2").model
    ids = torch.randint(100, 49000, (1, tokens), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = {}
        for form in ("eager", "sdpa"):
            model.set_attn_implementation(form)
            found[form] = model.model(ids, use_cache=False).last_hidden_state.double()
        exact = model.double().model(ids, use_cache=False).last_hidden_state
    for form, hidden in found.items():
        error = hidden - exact
        table.add_row(form, f"{(error.norm() / exact.norm()).item():.1e}", f"{error.abs().max().item():.1e}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256)
    arguments = parser.parse_args()
    console = Console()
    console.print(loads(arguments.repeats))
    console.print(attention(arguments.tokens))


if __name__ == "__main__":
    main()
