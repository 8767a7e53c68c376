# SPDX-License-Identifier: Apache-2.0
"""The tokenizer that a GGUF file carries, rebuilt from its arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tttdebug.errors import WeightsError
from tttdebug.references.gguf_file import GGUFFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL, USER_DEFINED = 3, 4  # kinds of token that are never split


def gguf_tokenizer(file: GGUFFile) -> Tokenizer:
    """The file's tokenizer."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    metadata = file.metadata
    if (kind := metadata["tokenizer.ggml.model"]) != "gpt2" or (cut := metadata["tokenizer.ggml.pre"]) != "smollm":
        raise WeightsError(f"{file.path} has a tokenizer that is not known: {kind} {cut}")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    )
    return tokenizer


def tokenizer_config(file: GGUFFile) -> dict[str, Any]:
    """The `tokenizer_config.json` that goes with it."""
    tokens = file.metadata["tokenizer.ggml.tokens"]
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name in ("bos", "eos", "unknown", "padding"):
        if (number := file.metadata.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            config[{"unknown": "unk", "padding": "pad"}.get(name, name) + "_token"] = tokens[number]
    if "tokenizer.chat_template" in file.metadata:
        config["chat_template"] = file.metadata["tokenizer.chat_template"]
    return config
