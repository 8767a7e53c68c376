# SPDX-License-Identifier: Apache-2.0
"""`load_reference`: from a name, a hub id, a folder, a GGUF file or a torch module to the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.errors import WeightsError
from tttdebug.references.reference import Progress, Reference, say_nothing

if TYPE_CHECKING:
    import torch
    from torch import nn


def load_reference(
    model: str | Path | nn.Module = "llama",
    *,
    weights: Path | None = None,
    layers: int | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Reference:
    """The model a port is compared with, in fp32 unless `dtype` says otherwise."""
    import torch

    from tttdebug.references.folder import load_folder
    from tttdebug.references.smollm2 import GGUF_SHA256, SOURCE, smollm2_folder

    if model != "llama" or weights is not None:
        raise WeightsError(f"unknown model {model}; known: llama")
    folder = smollm2_folder(progress or say_nothing)
    hf, tokenizer = load_folder(folder, layers, dtype or torch.float32)
    return Reference("llama", hf, tokenizer, hf.config, GGUF_SHA256, SOURCE, hf.config.max_position_embeddings)
