# SPDX-License-Identifier: Apache-2.0
"""The emulator on a whole Llama beside recordings of the real ttnn, and how long its prefill takes.

    python benchmarks/emulator_llama.py [--recordings FOLDER] [--precision accuracy|performance|bf16] [--tokens 128]

Weights are those of `load_reference("llama")`, SmolLM2-135M-Instruct. With recordings, per boundary: how near the
emulated activations and the real ones are to the fp32 reference, and to each other. Then prefill times in the same
process, taking turns with the Hugging Face forward.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaForCausalLM

from tttdebug.emulator import open_device, ttnn
from tttdebug.emulator.llama_chain import PRECISIONS, LlamaChain
from tttdebug.references import load_reference


def pcc(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double().flatten(), b.double().flatten()]))[0, 1])


def rel_l2(port: Tensor, reference: Tensor) -> float:
    return float((port - reference).norm() / reference.norm())


def print_boundaries(console: Console, folder: Path, precision: str, model: LlamaForCausalLM) -> None:
    """One row per recorded boundary that the recorded reference has as well."""
    ids = json.loads((folder / "llama_prompt.json").read_text())["ids"]
    recorded = _load(folder / f"llama_{precision}_S{len(ids)}_L{model.config.num_hidden_layers}.npz")
    reference = _load(folder / f"llama_reference_S{len(ids)}.npz")
    ours: dict[str, Tensor] = {}
    device = open_device(grid=(8, 9))
    LlamaChain(model, device, PRECISIONS[precision]).prefill(
        ids, lambda name, x: ours.__setitem__(name, ttnn.to_torch(x)[0, 0].float())
    )
    with torch.inference_mode():
        reference["logits_last_token"] = model(torch.tensor([ids])).logits[0, -1]
    ours["logits_last_token"] = ours["logits"][-1]
    table = Table(title=f"{precision}: {len(ids)} tokens against the fp32 reference")
    for heading in ("boundary", "pcc real", "pcc emulated", "rel_l2 real", "rel_l2 emulated", "pcc emulated, real"):
        table.add_column(heading, justify="left" if heading == "boundary" else "right", no_wrap=heading == "boundary")
    for name, real in recorded.items():
        truth, emulated = reference.get(name), ours[name].reshape(real.shape)
        against = [f"{pcc(t, truth):.5f}" for t in (real, emulated)] if truth is not None else ["", ""]
        errors = [f"{rel_l2(t, truth):.4f}" for t in (real, emulated)] if truth is not None else ["", ""]
        table.add_row(name, *against, *errors, f"{pcc(emulated, real):.6f}")
    console.print(table)


def _load(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: _as_float(arrays[name]) for name in arrays.files}


def _as_float(array: np.ndarray) -> Tensor:
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).float()
    return torch.from_numpy(array.copy()).float()


def print_times(console: Console, model: LlamaForCausalLM, precision: str, tokens: int, repeats: int) -> None:
    """The least prefill seconds of Hugging Face in fp32 and bfloat16 and of each engine, and the ratios to both."""
    ids = [int(i) for i in torch.randint(100, 40000, (tokens,), generator=torch.Generator().manual_seed(0))]
    batch = torch.tensor([ids])
    half = copy.deepcopy(model).bfloat16()
    ways: dict[str, Callable[[], object]] = {
        "Hugging Face fp32": lambda: model(batch),
        "Hugging Face bfloat16": lambda: half(batch),
    }
    for engine in ("fast", "exact", "ideal"):
        port = LlamaChain(model, open_device(engine), PRECISIONS[precision])
        ways[f"emulated, {engine}"] = lambda port=port: port.prefill(ids)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(repeats + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
    table = Table(
        title=f"prefill of {tokens} tokens, {precision}, {torch.get_num_threads()} threads, best of {repeats}"
    )
    for heading in ("", "seconds", "of fp32", "of bfloat16"):
        table.add_column(heading)
    least = {name: min(times[1:]) for name, times in seconds.items()}
    for name, best in least.items():
        ratios = (f"{best / least[f'Hugging Face {base}']:.2f}" for base in ("fp32", "bfloat16"))
        table.add_row(name, f"{best:.3f}", *ratios)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--precision", choices=PRECISIONS, default="accuracy")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    console, model = Console(), load_reference("llama").model
    if arguments.recordings:
        if arguments.precision == "bf16":
            parser.error("there are recordings of accuracy and performance only")
        print_boundaries(console, arguments.recordings, arguments.precision, model)
    print_times(console, model, arguments.precision, arguments.tokens, arguments.repeats)


if __name__ == "__main__":
    main()
