# SPDX-License-Identifier: Apache-2.0
"""How far a sound port is above its floor: the ratio of rel_l2 to floor_rel_l2 by size of the floor, all precisions.

This is what the margins of `tttdebug.tracking.gates.explained_by_floor` were chosen by; `false alarms` counts the
comparisons that they fail though nothing is wrong. The prompts: prose of Python's own documentation, the package's
calibration texts whole and cut short, and a few words.
usage: python benchmarks/floor_margins.py [--prompts 6] [--decode 6] [--layers N]
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pydoc_data.topics import topics

import pandas

import tttdebug as td
from tttdebug.references import Reference

FLOORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 2.0)
FEW_WORDS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Once upon a time",
    "1 2 3 4 5 6",
    "Hello",
    "The quick brown fox jumps over the lazy dog",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=6, help="of each kind")
    parser.add_argument("--decode", type=int, default=6, help="steps")
    parser.add_argument("--layers", type=int, help="of the model that are kept")
    options = parser.parse_args()
    reference = td.load_reference("llama", layers=options.layers)
    kinds = prompts_of(reference, options.prompts)
    frames = []
    for precision in ("bf16", "accuracy", "performance"):
        for kind, prompts in kinds.items():
            port = td.build_model(reference, td.open_device("emulated"), precision)
            run = td.track(port, reference, prompts, decode_steps=options.decode, save_tensors="none")
            print(f"{precision}, {kind}: {len(run.failed)} false alarms in {len(run.records)} comparisons", flush=True)
            for record in run.failed:
                far = f"rel_l2 {record.rel_l2:.3f}, {record.above_floor:.2f} times its floor"
                print(f"  {record.key}: {record.note}; {far}", flush=True)
            frames.append(run.frame)
    frame = pandas.concat(frames)
    frame["ratio"] = frame["rel_l2"] / frame["floor_rel_l2"]
    frame["floor"] = pandas.cut(frame["floor_rel_l2"], FLOORS)
    table = frame.groupby(["phase", "floor"], observed=True)["ratio"].describe(percentiles=[0.5, 0.99])
    print(table[["count", "50%", "99%", "max"]].to_string(float_format="%.2f"))


def prompts_of(reference: Reference, count: int) -> dict[str, list[list[int]]]:
    """Token ids of so many prompts by their kind."""
    prose = sorted(topics.values(), key=len, reverse=True)[:count]
    texts = (files("tttdebug") / "prompts" / "calibration.txt").read_text("utf-8").split("\n\n")[:count]
    read = reference.tokenizer.encode
    return {
        "prose of 120 tokens": [read(text)[:120] for text in prose],
        "texts of 64": [read(text.strip())[:64] for text in texts],
        "texts of 20": [read(text.strip())[:20] for text in texts],
        "a few words": [read(text) for text in FEW_WORDS[:count]],
    }


if __name__ == "__main__":
    main()
