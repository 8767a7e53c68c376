# SPDX-License-Identifier: Apache-2.0
"""The emulated chip's errors beside the real one's: SmolLM2, 32 tokens, PCC against the fp32 reference.

The real figures were read off recordings of ttnn 0.81.1 by tests/data/chip_llama_errors.py.
usage: python benchmarks/chip_errors.py [ENGINE …]
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import tttdebug as td

RECORDED = Path(__file__).parents[1] / "tests" / "data" / "chip_llama_errors.json"
RECORDED_ON = (8, 9)  # the compute grid of the recordings
SHOWN = (
    "L00.self_attn",
    "L00.mlp",
    "L01.mlp",
    "L02.self_attn",
    "L03.mlp",
    "L05.self_attn",
    "L05.mlp",
    "L05.layer_out",
    "final_norm",
)


def main(engines: list[str]) -> None:
    chip = json.loads(RECORDED.read_text())
    reference = td.load_reference("llama")
    for precision in ("accuracy", "performance"):
        real, emulated = chip[precision], {}
        for engine in engines:
            port = td.build_model(reference, td.open_device("emulated", engine=engine, grid=RECORDED_ON), precision)
            run = td.track(port, reference, [chip["prompt"]], save_tensors="none")
            emulated[engine] = {record.boundary: record for record in run.records}
        print(f"{precision}: PCC against fp32\n{'':16}{'real':>9}" + "".join(f"{engine:>9}" for engine in engines))
        for boundary in filter(real.__contains__, SHOWN):
            values = [real[boundary]["pcc"], *(emulated[engine][boundary].pcc for engine in engines)]
            print(f"{boundary:16}" + "".join(f"{value:9.5f}" for value in values))
        for engine in engines:
            ratios = [emulated[engine][boundary].rel_l2 / error["rel_l2"] for boundary, error in real.items()]
            print(
                f"{engine}: rel_l2 over {len(ratios)} boundaries {min(ratios):.4f} to {max(ratios):.4f} times the real "
                f"one, median {statistics.median(ratios):.4f}"
            )


if __name__ == "__main__":
    main(sys.argv[1:] or ["exact", "fast"])
