# SPDX-License-Identifier: Apache-2.0
"""How far a sound port is above its floor: the ratio of rel_l2 to floor_rel_l2 by size of the floor, all precisions.

This is what the margins of `tttdebug.tracking.gates.explained_by_floor` were chosen by; `false alarms` counts the
comparisons that they fail though nothing is wrong. The prompts are prose of Python's own documentation.
usage: python benchmarks/floor_margins.py [PROMPTS [DECODE_STEPS]]
"""

from __future__ import annotations

import sys
from pydoc_data.topics import topics

import pandas

import tttdebug as td

FLOORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 2.0)
TOKENS = 120


def main(count: int, decode_steps: int) -> None:
    reference = td.load_reference("llama")
    texts = sorted(topics.values(), key=len, reverse=True)[:count]
    prompts = [reference.tokenizer.encode(text)[:TOKENS] for text in texts]
    frames = []
    for precision in ("bf16", "accuracy", "performance"):
        port = td.build_model(reference, td.open_device("emulated"), precision)
        run = td.track(port, reference, prompts, decode_steps=decode_steps, save_tensors="none")
        print(f"{precision}: {len(run.failed)} false alarms in {len(run.records)} comparisons of {count} prompts")
        for record in run.failed:
            print(
                f"  {record.key}: {record.note}; rel_l2 {record.rel_l2:.3f}, {record.above_floor:.2f} times its floor"
            )
        frames.append(run.frame)
    frame = pandas.concat(frames)
    frame["ratio"] = frame["rel_l2"] / frame["floor_rel_l2"]
    frame["floor"] = pandas.cut(frame["floor_rel_l2"], FLOORS)
    table = frame.groupby(["phase", "floor"], observed=True)["ratio"].describe(percentiles=[0.5, 0.99])
    print(table[["count", "50%", "99%", "max"]].to_string(float_format="%.2f"))


if __name__ == "__main__":
    main(*(int(argument) for argument in (*sys.argv[1:], *("6", "8")[len(sys.argv) - 1 :])))
