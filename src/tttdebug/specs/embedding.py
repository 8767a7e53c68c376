# SPDX-License-Identifier: Apache-2.0
"""Where a model begins: `EmbeddingSpec`, tokens to vectors, and `PatchEmbeddingSpec`, images to vectors."""

from __future__ import annotations

from dataclasses import dataclass

from tttdebug.specs.cost import Cost, Workload, linear
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.validation import Count, Dim, InvalidSpecError, Positive, Rule, Violation


@dataclass(frozen=True, repr=False)
class EmbeddingSpec(ModuleSpec):
    """Token embedding, times `scale`, plus learned positions and token types where a model has them, then a norm.

    `learned_positions` and `token_types` count the rows of their tables. Rotary positions belong to the attention.
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

    def _cost(self, workload: Workload) -> Cost:
        tables = (self.vocab_size, self.learned_positions, self.token_types)
        looked_up = sum(rows is not None for rows in tables) * workload.tokens * self.hidden_dim
        lookup = Cost(
            weight_count=sum(rows or 0 for rows in tables) * self.hidden_dim,
            weights_read=looked_up,
            activation_count=workload.tokens * self.hidden_dim,
        )
        return lookup if self.norm is None else lookup + self.norm._cost(workload)


@dataclass(frozen=True, repr=False)
class PatchEmbeddingSpec(ModuleSpec):
    """A square image cut into square patches, each projected to a vector, plus a learned vector per position.

    With `class_token` one learned vector that belongs to no patch stands first.
    """

    image_size: Count
    patch_size: Count
    hidden_dim: Dim
    channels: Count = 3
    class_token: bool = True
    bias: bool = True

    RULES = (
        Rule(
            "patch_size",
            needs=("image_size",),
            holds=lambda spec: spec.image_size % spec.patch_size == 0,
            says="must divide image_size ({spec.image_size})",
            suggestion="pad the image to a multiple of {spec.patch_size}, or change the patch size",
        ),
    )

    @property
    def num_patches(self) -> int:
        """How many patches an image has."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_dim(self) -> int:
        """How many numbers a patch has, over all channels."""
        return self.channels * self.patch_size**2

    @property
    def learned_positions(self) -> int:
        """How many vectors come out for one image, each with a learned position."""
        return self.num_patches + self.class_token

    def _cost(self, workload: Workload) -> Cost:
        if workload.queries != self.learned_positions:
            rule = f"must be the {self.learned_positions} positions of an image, all of them at once"
            suggestion = f"give seq_len={self.learned_positions} and phase='prefill'"
            raise InvalidSpecError("cost", [Violation("seq_len", workload.seq_len, rule, suggestion)])
        project = linear(workload.batch * self.num_patches, self.patch_dim, self.hidden_dim, self.bias)
        added = self.hidden_dim * (self.learned_positions + self.class_token)
        return project + Cost(weight_count=added, weights_read=added)
