# SPDX-License-Identifier: Apache-2.0
"""Whole models: `CausalLMSpec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tttdebug.specs.embedding import EmbeddingSpec, LMHeadSpec
from tttdebug.specs.layers import DecoderLayerSpec, same_width
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.validation import NOT_EMPTY, Count, Rule

_LAYERS_AS_WIDE = Rule(
    "layers",
    needs=("embedding",),
    holds=lambda spec: all(layer.hidden_dim == spec.embedding.hidden_dim for layer in spec.layers),
    says="must all have the hidden_dim of embedding ({spec.embedding.hidden_dim})",
    suggestion="give every layer hidden_dim={spec.embedding.hidden_dim}",
)


@dataclass(frozen=True, repr=False)
class CausalLMSpec(ModuleSpec):
    """A language model that predicts the next token: embedding, decoder layers, final norm, LM head."""

    embedding: EmbeddingSpec
    layers: Annotated[tuple[DecoderLayerSpec, ...], NOT_EMPTY]
    final_norm: NormSpec
    lm_head: LMHeadSpec
    max_sequence_length: Count = 8192

    RULES = (
        _LAYERS_AS_WIDE,
        same_width("final_norm", "embedding"),
        same_width("lm_head", "embedding"),
        Rule(
            "lm_head",
            needs=("embedding",),
            holds=lambda spec: not spec.lm_head.tied or spec.lm_head.padded_vocab_size == spec.embedding.vocab_size,
            says="is tied, so it must have as many rows as the embedding ({spec.embedding.vocab_size})",
            suggestion="give it vocab_size={spec.embedding.vocab_size}, or tied=False",
        ),
        Rule(
            "max_sequence_length",
            needs=("embedding",),
            holds=lambda spec: (
                spec.max_sequence_length <= (spec.embedding.learned_positions or spec.max_sequence_length)
            ),
            says="must not exceed the embedding's learned_positions ({spec.embedding.learned_positions})",
            suggestion="give {spec.embedding.learned_positions} or less",
        ),
    )

    @property
    def num_layers(self) -> int:
        """How many decoder layers there are."""
        return len(self.layers)

    @property
    def hidden_dim(self) -> int:
        """Width of the residual stream."""
        return self.embedding.hidden_dim

    @property
    def vocab_size(self) -> int:
        """How many tokens there are; padding rows of the LM head not counted."""
        return self.lm_head.vocab_size
