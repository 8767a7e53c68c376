# SPDX-License-Identifier: Apache-2.0
"""Reading a Hugging Face folder: which files hold its weights, and its config, model and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import WeightsError
from tttdebug.references.pretrained import in_one_line, keep_layers, load_pretrained, what_transformers_raises

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What `save_pretrained` calls weights, in the order of preference; in pieces, an index stands beside them."""

TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""A folder with none of these has no tokenizer."""


IMAGE_PROCESSOR = "preprocessor_config.json"


def weights_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights. Raises WeightsError where the folder or its weights are not whole."""
    if not (folder / "config.json").is_file():
        inside = sorted(folder.glob("*.gguf"))
        hint = f"give {inside[0]}" if inside else "give a folder that save_pretrained wrote, or a GGUF file"
        raise WeightsError(f"{folder} has no config.json, so it is not a Hugging Face folder: {hint}")
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = [folder / piece for piece in sorted(set(_pieces(index)))]
        elif (folder / name).is_file():
            files = [folder / name]
        else:
            continue
        if missing := [file.name for file in files if not file.is_file()]:
            raise WeightsError(f"{folder} lacks {', '.join(missing)}, which {index.name} lists: fetch the model again")
        return files
    raise WeightsError(f"{folder} has a config.json but no weights ({' or '.join(WEIGHTS)}): fetch the model again")


def load_folder(
    folder: Path, layers: int | None, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """The model of a Hugging Face folder, and its tokenizer where it has one. Raises WeightsError, SpecError."""
    config, tokenizer = read_folder(folder, layers)
    return load_pretrained(config, folder, origin=folder, dtype=dtype), tokenizer


def read_folder(folder: Path, layers: int | None) -> tuple[PretrainedConfig, PreTrainedTokenizerBase | None]:
    """What a Hugging Face folder holds but its weights: the config cut to so many layers, and its tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    weights_files(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = None
        if any((folder / name).is_file() for name in TOKENIZER):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except what_transformers_raises() as error:
        raise WeightsError(f"config.json or tokenizer of {folder} cannot be read ({in_one_line(error)})") from error
    keep_layers(config, layers)
    return config, tokenizer


def load_image_processor(folder: Path) -> Any:
    """What prepares pictures for the model of a Hugging Face folder; None where the folder has nothing of the kind.

    Raises WeightsError for one that cannot be read.
    """
    if not (folder / IMAGE_PROCESSOR).is_file():
        return None
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except what_transformers_raises() as error:
        raise WeightsError(f"{IMAGE_PROCESSOR} of {folder} cannot be read ({in_one_line(error)})") from error


def _pieces(index: Path) -> list[str]:
    try:
        pieces: list[str] = list(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{index} cannot be read ({in_one_line(error)}): fetch the model again") from error
    return pieces
