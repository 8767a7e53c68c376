# SPDX-License-Identifier: Apache-2.0
"""One layer of a transformer: `DecoderLayerSpec` and `EncoderLayerSpec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tttdebug.specs.attention import AttentionSpec
from tttdebug.specs.feed_forward import FeedForwardSpec, MixtureOfExpertsSpec
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.validation import Rule


def same_width(field: str, within: str) -> Rule:
    """The spec in `field`, if there is one, must be as wide as the spec in `within`."""

    def holds(spec: Any) -> bool:
        part = getattr(spec, field)
        return part is None or part.hidden_dim == getattr(spec, within).hidden_dim

    return Rule(
        field,
        needs=(within,),
        holds=holds,
        says=f"must have the hidden_dim of {within} ({{spec.{within}.hidden_dim}})",
        suggestion=f"give it hidden_dim={{spec.{within}.hidden_dim}}",
    )


@dataclass(frozen=True, repr=False)
class DecoderLayerSpec(ModuleSpec):
    """A layer that adds attention and feed-forward to the residual stream x. Which norm stands where:

    Llama      h = x + attention(input_norm(x));  h + feed_forward(post_attention_norm(h))
    Gemma 2/3  h = x + post_attention_norm(attention(input_norm(x)));
               h + post_feed_forward_norm(feed_forward(pre_feed_forward_norm(h)))
               (the two feed-forward norms are given: `norms_branch_outputs`)
    parallel   x + attention(input_norm(x)) + feed_forward(post_attention_norm(x)); without a post_attention_norm
               both branches read input_norm(x)
    """

    attention: AttentionSpec
    feed_forward: FeedForwardSpec | MixtureOfExpertsSpec
    input_norm: NormSpec
    post_attention_norm: NormSpec | None = None
    pre_feed_forward_norm: NormSpec | None = None
    post_feed_forward_norm: NormSpec | None = None
    parallel_residual: bool = False

    RULES = (
        same_width("feed_forward", "attention"),
        same_width("input_norm", "attention"),
        same_width("post_attention_norm", "attention"),
        same_width("pre_feed_forward_norm", "attention"),
        same_width("post_feed_forward_norm", "attention"),
        Rule(
            "post_attention_norm",
            needs=("parallel_residual",),
            holds=lambda spec: spec.parallel_residual or spec.post_attention_norm is not None,
            says="is needed unless parallel_residual=True",
            suggestion="give the norm that stands before the feed-forward",
        ),
        Rule(
            "post_feed_forward_norm",
            needs=("pre_feed_forward_norm",),
            holds=lambda spec: (spec.post_feed_forward_norm is None) == (spec.pre_feed_forward_norm is None),
            says="and pre_feed_forward_norm come together",
            suggestion="give both (Gemma 2/3) or neither (Llama)",
        ),
        Rule(
            "pre_feed_forward_norm",
            needs=("parallel_residual",),
            holds=lambda spec: spec.pre_feed_forward_norm is None or not spec.parallel_residual,
            says="has no place in a layer with parallel_residual=True",
            suggestion="leave it out, or parallel_residual=False",
        ),
    )

    @property
    def hidden_dim(self) -> int:
        """Width of the residual stream."""
        return self.attention.hidden_dim

    @property
    def norms_branch_outputs(self) -> bool:
        """Whether each branch's output is normalised before it is added, as Gemma 2 and 3 do."""
        return self.pre_feed_forward_norm is not None


@dataclass(frozen=True, repr=False)
class EncoderLayerSpec(ModuleSpec):
    """A layer of an encoder, whose attention sees all positions.

    pre   h = x + attention(attention_norm(x));  h + feed_forward(feed_forward_norm(h))   (ViT)
    post  h = attention_norm(x + attention(x));  feed_forward_norm(h + feed_forward(h))   (BERT)
    """

    attention: AttentionSpec
    feed_forward: FeedForwardSpec
    attention_norm: NormSpec
    feed_forward_norm: NormSpec
    norm_position: Literal["pre", "post"] = "pre"

    RULES = (
        same_width("feed_forward", "attention"),
        same_width("attention_norm", "attention"),
        same_width("feed_forward_norm", "attention"),
        Rule(
            "attention",
            needs=(),
            holds=lambda spec: not spec.attention.causal,
            says="must see all positions",
            suggestion="give it causal=False",
        ),
    )

    @property
    def hidden_dim(self) -> int:
        """Width of the residual stream."""
        return self.attention.hidden_dim
