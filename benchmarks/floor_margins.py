# SPDX-License-Identifier: Apache-2.0
"""How far a sound port is above its floor: the ratio of rel_l2 to floor_rel_l2 by size of the floor, all precisions.

This is what the margins of `tttdebug.tracking.gates.explained_by_floor` were chosen by.
usage: python benchmarks/floor_margins.py [DECODE_STEPS]
"""

from __future__ import annotations

import sys

import pandas
import tttdebug as td
from tttdebug.tracking.prompts import default_prompt

FLOORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 2.0)


def main(decode_steps: int) -> None:
    reference = td.load_reference("llama")
    frames = []
    for precision in ("bf16", "accuracy", "performance"):
        port = td.build_model(reference, td.open_device("emulated"), precision)
        frames.append(td.track(port, reference, [default_prompt()], decode_steps=decode_steps).frame)
    frame = pandas.concat(frames)
    frame["ratio"] = frame["rel_l2"] / frame["floor_rel_l2"]
    frame["floor"] = pandas.cut(frame["floor_rel_l2"], FLOORS)
    table = frame.groupby(["phase", "floor"], observed=True)["ratio"].describe(percentiles=[0.5, 0.99])
    print(table[["count", "50%", "99%", "max"]].to_string(float_format="%.2f"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
