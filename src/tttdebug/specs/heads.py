# SPDX-License-Identifier: Apache-2.0
"""What a model ends in: `LMHeadSpec` for tokens, `PoolerSpec` and `ClassifierSpec` for encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tttdebug.specs.cost import Cost, Workload, linear
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.validation import Count, Dim, Positive, Rule, derived


@dataclass(frozen=True, repr=False)
class LMHeadSpec(ModuleSpec):
    """Projection to logits; `tied` when its weight is the embedding's table.

    `padded_vocab_size` counts the rows of the checkpoint's matrix; those from vocab_size on belong to no token.
    Logits are multiplied by `logit_scale`, then `logit_softcap` c turns them into c tanh(logits / c).
    """

    hidden_dim: Dim
    vocab_size: Count
    tied: bool = False
    bias: bool = False
    logit_softcap: Positive | None = None
    logit_scale: Positive | None = None
    padded_vocab_size: Dim = derived("vocab_size", compute=lambda spec: spec.vocab_size)  # noqa: RUF009

    RULES = (
        Rule(
            "padded_vocab_size",
            needs=("vocab_size",),
            holds=lambda spec: spec.padded_vocab_size >= spec.vocab_size,
            says="must not be less than vocab_size ({spec.vocab_size})",
            suggestion="give {spec.vocab_size} or more, or leave it out",
        ),
    )

    def _cost(self, workload: Workload) -> Cost:
        return linear(workload.tokens, self.hidden_dim, self.padded_vocab_size, self.bias)


@dataclass(frozen=True, repr=False)
class PoolerSpec(ModuleSpec):
    """One vector for the whole input: a projection of the first position and a nonlinearity."""

    hidden_dim: Dim
    output_dim: Dim = derived("hidden_dim", compute=lambda spec: spec.hidden_dim)  # noqa: RUF009
    activation: Literal["tanh", "gelu", "relu", "silu"] = "tanh"
    bias: bool = True

    def _cost(self, workload: Workload) -> Cost:
        return linear(workload.batch, self.hidden_dim, self.output_dim, self.bias)


@dataclass(frozen=True, repr=False)
class ClassifierSpec(ModuleSpec):
    """Projection of one vector to a score per class."""

    hidden_dim: Dim
    num_classes: Count
    bias: bool = True

    def _cost(self, workload: Workload) -> Cost:
        return linear(workload.batch, self.hidden_dim, self.num_classes, self.bias)
