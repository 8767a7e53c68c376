# SPDX-License-Identifier: Apache-2.0
"""What a reference is: a trained causal language model in fp32, its tokenizer, and where both came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[str, "float | None"], None]
"""Told what is being done and how far it is, from 0 to 1; None where the length is not known."""


def say_nothing(message: str, fraction: float | None) -> None:
    """The progress of somebody who does not want to hear of it."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What the port should compute.

    `model` is in evaluation mode and its parameters want no gradient. `tokenizer` is None where the reference was made
    from a torch module. `weights_digest` is the SHA-256 of the weights file; of several files, that of the lines
    `sha256sum` prints for them; of a torch module, that of its parameters. `source` says in one sentence where the
    weights came from.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    config: PretrainedConfig
    weights_digest: str
    source: str
    context_length: int
