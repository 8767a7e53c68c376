# SPDX-License-Identifier: Apache-2.0
"""What a reference is: a trained causal language model, its tokenizer, and where both came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tttdebug.references.layer_streamed import LayerStream

Progress = Callable[[str, float | None], None]
"""Told what is being done and how far it is, from 0 to 1, or None where the length is not known."""


def say_nothing(message: str, fraction: float | None) -> None:
    """The progress of somebody who does not want to hear of it."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What the port should compute.

    `model` is in evaluation mode and its parameters want no gradient. `tokenizer` is None where there is none: for a
    torch module, and for a folder or a GGUF file without one; so is `image_processor` but for a model of images whose
    folder has one. `weights_digest` is the SHA-256 of the weights file; of
    several files, what `sha256sum FILES | sha256sum` prints; of a torch module, that of its parameters. `source` says
    in one sentence where the weights came from. Of a reference that is run a layer at a time `stream` reads the layers;
    the parameters of its `model` are in memory only while their layer runs.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    config: PretrainedConfig
    weights_digest: str
    source: str
    context_length: int
    image_processor: Any = None
    stream: LayerStream | None = None

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights by name; of a streamed reference each is read when it is asked for."""
        return self.model.state_dict() if self.stream is None else self.stream.state()

    @property
    def reads_images(self) -> bool:
        """Whether the model's inputs are images, not text."""
        return getattr(self.config, "image_size", None) is not None and not hasattr(self.config, "vocab_size")

    @property
    def decodes(self) -> bool:
        """Whether the model predicts a next token, and so has a decode beside its prefill."""
        return type(self.model).__name__.endswith(("ForCausalLM", "LMHeadModel"))


def context_length_of(config: PretrainedConfig) -> int:
    """How many positions a model of that config has; of a model of images, those of one image."""
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length is not None else (config.image_size // config.patch_size) ** 2 + 1
