# SPDX-License-Identifier: Apache-2.0
"""A GGUF file as a Hugging Face model: loaded, or written out as a folder that loads in no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.errors import WeightsError
from tttdebug.references.reference import Progress, say_nothing

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONVERSION = 1
"""Part of the names of converted models in the cache: raise it when what `convert_gguf` writes changes."""


def load_gguf(
    path: Path, layers: int | None, dtype: torch.dtype, progress: Progress = say_nothing
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """The model of a GGUF file, and its tokenizer where it has one. Raises WeightsError, SpecError."""
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    from tttdebug.references.gguf_file import open_gguf
    from tttdebug.references.gguf_llama import llama_config, llama_state_dict
    from tttdebug.references.gguf_tokenizer import gguf_tokenizer, tokenizer_config
    from tttdebug.references.pretrained import in_one_line, keep_layers, load_pretrained, what_transformers_raises

    progress(f"reading {path.name}", None)
    file = open_gguf(path)
    fields = llama_config(file)
    try:
        config = LlamaConfig.from_dict(fields)
    except what_transformers_raises() as error:
        raise WeightsError(f"{path} describes a Llama that transformers refuses ({in_one_line(error)})") from error
    keep_layers(config, layers)
    tokenizer = gguf_tokenizer(file)
    wrapped = tokenizer and PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokenizer_config(file))
    weights = llama_state_dict(file, fields, layers, progress)
    return load_pretrained(config, weights, origin=path, dtype=dtype), wrapped


def convert_gguf(path: Path, folder: Path, progress: Progress = say_nothing) -> None:
    """Write config, weights in fp32 and tokenizer of a GGUF file into `folder`. Raises WeightsError.

    Everything is in the oldest spelling that transformers reads, since one cache may serve several versions of it.
    """
    from safetensors.torch import save_file

    from tttdebug.references.gguf_file import open_gguf
    from tttdebug.references.gguf_llama import llama_config, llama_state_dict
    from tttdebug.references.gguf_tokenizer import gguf_tokenizer, tokenizer_config

    progress(f"reading {path.name}", None)
    file = open_gguf(path)
    fields = llama_config(file)
    (folder / "config.json").write_text(json.dumps(fields, indent=1), "utf-8")
    if (tokenizer := gguf_tokenizer(file)) is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(file), indent=1), "utf-8")
    weights = llama_state_dict(file, fields, progress=progress)
    progress("writing the weights to the cache", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
