# SPDX-License-Identifier: Apache-2.0
"""The emulated chip's errors beside the real one's: SmolLM2, 32 tokens, PCC against the fp32 reference.

The real figures were read off recordings of ttnn 0.81.1 by tests/data/chip_llama_errors.py.
usage: python benchmarks/chip_errors.py
"""

from __future__ import annotations

import json
import statistics
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


def main() -> None:
    chip = json.loads(RECORDED.read_text())
    reference = td.load_reference("llama")
    for precision in ("accuracy", "performance"):
        port = td.build_model(reference, td.open_device("emulated", grid=RECORDED_ON), precision)
        run = td.track(port, reference, [chip["prompt"]], save_tensors="none")
        emulated = {record.boundary: record for record in run.records}
        print(f"{precision:14} emulated pcc   real pcc   ratio of rel_l2   slopes")
        for boundary in filter(chip[precision].__contains__, SHOWN):
            ours, real = emulated[boundary], chip[precision][boundary]
            ratio, slopes = ours.rel_l2 / real["rel_l2"], f"{ours.slope:.4f} {real['slope']:.4f}"
            print(f"{boundary:14} {ours.pcc:12.5f} {real['pcc']:10.5f} {ratio:17.2f}   {slopes}")
        recorded = chip[precision].items()
        ratios = [emulated[boundary].rel_l2 / error["rel_l2"] for boundary, error in recorded]
        low, high = min(ratios), max(ratios)
        print(
            f"rel_l2 ratio over {len(ratios)} boundaries: {low:.2f} to {high:.2f}, "
            f"median {statistics.median(ratios):.2f}\n"
        )


if __name__ == "__main__":
    main()
