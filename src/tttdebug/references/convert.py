# SPDX-License-Identifier: Apache-2.0
"""A GGUF file written out as a Hugging Face folder, so that the next load takes no time."""

from __future__ import annotations

import json
from pathlib import Path

from tttdebug.references.gguf_file import open_gguf
from tttdebug.references.gguf_llama import llama_config, llama_state_dict
from tttdebug.references.gguf_tokenizer import gguf_tokenizer, tokenizer_config
from tttdebug.references.reference import Progress, say_nothing


def convert_gguf(path: Path, folder: Path, progress: Progress = say_nothing) -> None:
    """Write config, weights in fp32 and tokenizer of a llama GGUF file into `folder`. Raises WeightsError."""
    from safetensors.torch import save_file

    progress(f"reading {path.name}", None)
    file = open_gguf(path)
    config = llama_config(file)
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    gguf_tokenizer(file).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(file), indent=1), "utf-8")
    weights = llama_state_dict(file, config, progress)
    progress("writing the weights to the cache", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
