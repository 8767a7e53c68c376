# SPDX-License-Identifier: Apache-2.0
"""Loading a Hugging Face folder: every weight of the model found in it, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.errors import SpecError, WeightsError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load_folder(
    folder: Path, layers: int | None, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The causal language model and the tokenizer of a Hugging Face folder."""
    import transformers

    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder} has no config.json: give the folder that save_pretrained wrote, or a GGUF file")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    keep_layers(config, layers)
    with _no_progress_bars():
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            output_loading_info=True,
            attn_implementation="sdpa",
            dtype=dtype,
        )
    if missing := sorted(found["missing_keys"]):
        raise WeightsError(f"{folder} lacks {len(missing)} weights of the model, {missing[0]} first")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return model.eval().requires_grad_(False), tokenizer


def keep_layers(config: PretrainedConfig, layers: int | None) -> None:
    """Cut a config to its first `layers` decoder layers."""
    if layers is None:
        return
    if not 1 <= layers <= config.num_hidden_layers:
        raise SpecError(
            f"layers={layers}: the model has {config.num_hidden_layers}; give 1 to {config.num_hidden_layers}"
        )
    config.num_hidden_layers = layers


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers' own progress bars off the console."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
