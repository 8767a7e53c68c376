# SPDX-License-Identifier: Apache-2.0
"""Makes chip_llama_errors.json: how far the real ttnn 0.81.1 is from the fp32 reference.

usage: python tests/data/chip_llama_errors.py FOLDER   (which holds llama_*.npz and llama_prompt.json)
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from tttdebug import compare


def values(array: np.ndarray) -> torch.Tensor:
    """bfloat16 bit patterns (uint16) or fp32 as fp32, [tokens, channels]."""
    floats = (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array
    return torch.from_numpy(floats.reshape(-1, floats.shape[-1]).copy())


def main(folder: Path) -> None:
    reference = np.load(folder / "llama_reference_S32.npz")
    table = {"prompt": json.loads((folder / "llama_prompt.json").read_text())["ids"]}
    for precision in ("accuracy", "performance"):
        chip = np.load(folder / f"llama_{precision}_S32_L30.npz")
        table[precision] = {
            boundary: {name: getattr(compared, name) for name in ("pcc", "rel_l2", "slope")}
            for boundary in chip.files
            if boundary in reference.files
            for compared in [compare(values(reference[boundary]), values(chip[boundary]))]
        }
    Path(__file__).with_suffix(".json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
