# SPDX-License-Identifier: Apache-2.0
"""Whole models: `CausalLMSpec` and `EncoderModelSpec`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from tttdebug.specs.cost import Cost, Workload
from tttdebug.specs.embedding import EmbeddingSpec, PatchEmbeddingSpec
from tttdebug.specs.heads import ClassifierSpec, LMHeadSpec, PoolerSpec
from tttdebug.specs.layers import DecoderLayerSpec, EncoderLayerSpec, same_width
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.validation import NOT_EMPTY, Count, Rule

LAYERS_AS_WIDE = Rule(
    "layers",
    needs=("embedding",),
    holds=lambda spec: all(layer.hidden_dim == spec.embedding.hidden_dim for layer in spec.layers),
    says="must all have the hidden_dim of embedding ({spec.embedding.hidden_dim})",
    suggestion="give every layer hidden_dim={spec.embedding.hidden_dim}",
)
WITHIN_LEARNED_POSITIONS = Rule(
    "max_sequence_length",
    needs=("embedding",),
    holds=lambda spec: spec.max_sequence_length <= (spec.embedding.learned_positions or math.inf),
    says="must not exceed the embedding's learned_positions ({spec.embedding.learned_positions})",
    suggestion="give {spec.embedding.learned_positions} or less",
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
        LAYERS_AS_WIDE,
        same_width("final_norm", "embedding"),
        same_width("lm_head", "embedding"),
        Rule(
            "lm_head",
            needs=("embedding",),
            holds=lambda spec: not spec.lm_head.tied or spec.lm_head.padded_vocab_size == spec.embedding.vocab_size,
            says="is tied, so it must have as many rows as the embedding ({spec.embedding.vocab_size})",
            suggestion="give it padded_vocab_size={spec.embedding.vocab_size}, or tied=False",
        ),
        WITHIN_LEARNED_POSITIONS,
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

    def _cost(self, workload: Workload) -> Cost:
        total = super()._cost(workload)
        shared = self.embedding.vocab_size * self.hidden_dim if self.lm_head.tied else 0
        return replace(total, weight_count=total.weight_count - shared)


@dataclass(frozen=True, repr=False)
class EncoderModelSpec(ModuleSpec):
    """An encoder of text (BERT) or images (ViT): embedding, layers, then what the model ends in, each optional.

    The final norm reads all positions; the pooler reads the first position; the classifier reads the pooler's output
    or, without one, the first position.
    """

    embedding: EmbeddingSpec | PatchEmbeddingSpec
    layers: Annotated[tuple[EncoderLayerSpec, ...], NOT_EMPTY]
    final_norm: NormSpec | None = None
    pooler: PoolerSpec | None = None
    classifier: ClassifierSpec | None = None
    max_sequence_length: Count = 512

    RULES = (
        LAYERS_AS_WIDE,
        same_width("final_norm", "embedding"),
        same_width("pooler", "embedding"),
        Rule(
            "classifier",
            needs=("embedding", "pooler"),
            holds=lambda spec: spec.classifier is None or spec.classifier.hidden_dim == spec.pooled_dim,
            says="must read what comes before it, which is {spec.pooled_dim} wide",
            suggestion="give it hidden_dim={spec.pooled_dim}",
        ),
        WITHIN_LEARNED_POSITIONS,
    )

    @property
    def num_layers(self) -> int:
        """How many encoder layers there are."""
        return len(self.layers)

    @property
    def hidden_dim(self) -> int:
        """Width of the residual stream."""
        return self.embedding.hidden_dim

    @property
    def pooled_dim(self) -> int:
        """Width of what stands for the whole input: the pooler's output, or the first position."""
        return self.embedding.hidden_dim if self.pooler is None else self.pooler.output_dim
