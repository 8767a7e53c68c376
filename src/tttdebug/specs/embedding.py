# SPDX-License-Identifier: Apache-2.0
"""The two ends of a language model: `EmbeddingSpec`, tokens to vectors, and `LMHeadSpec`, vectors to logits."""

from __future__ import annotations

from dataclasses import dataclass

from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.validation import Count, Dim, Positive, Rule, derived


@dataclass(frozen=True, repr=False)
class EmbeddingSpec(ModuleSpec):
    """Token embedding, times `scale`, plus learned positions and token types where a model has them, then a norm.

    `learned_positions` and `token_types` are the rows of their tables. Rotary positions belong to the attention.
    """

    vocab_size: Count
    hidden_dim: Dim
    scale: Positive | None = None
    learned_positions: Count | None = None
    token_types: Count | None = None
    norm: NormSpec | None = None

    RULES = (
        Rule(
            "norm",
            needs=("hidden_dim",),
            holds=lambda spec: spec.norm is None or spec.norm.hidden_dim == spec.hidden_dim,
            says="must have this embedding's hidden_dim ({spec.hidden_dim})",
            suggestion="give it hidden_dim={spec.hidden_dim}",
        ),
    )


@dataclass(frozen=True, repr=False)
class LMHeadSpec(ModuleSpec):
    """Projection to logits; `tied` when its weight is the embedding's table.

    `padded_vocab_size` counts the rows of the checkpoint's matrix; those from vocab_size on belong to no token.
    `logit_softcap` c turns logits into c tanh(logits / c).
    """

    hidden_dim: Dim
    vocab_size: Count
    tied: bool = False
    bias: bool = False
    logit_softcap: Positive | None = None
    padded_vocab_size: Dim = derived("vocab_size", compute=lambda spec: spec.vocab_size)

    RULES = (
        Rule(
            "padded_vocab_size",
            needs=("vocab_size",),
            holds=lambda spec: spec.padded_vocab_size >= spec.vocab_size,
            says="must not be less than vocab_size ({spec.vocab_size})",
            suggestion="give {spec.vocab_size} or more, or leave it out",
        ),
    )
