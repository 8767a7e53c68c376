# SPDX-License-Identifier: Apache-2.0
"""Facts: what configurations say about a model, under one set of names whatever dialect they are written in.

A `Dialect` is the table of the keys that one kind of configuration has; an `Architecture` is the table of what one kind
of model computes beyond what its configuration says. `Facts` answers from both and from the configuration itself.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tttdebug.errors import SpecError

FACTS: Mapping[str, str] = {  # every fact that a dialect or an architecture may state, and what it means
    "hidden_dim": "width of the residual stream",
    "num_layers": "number of layers",
    "max_sequence_length": "positions the model was made for",
    # attention
    "num_heads": "query heads",
    "num_kv_heads": "key/value heads",
    "head_dim": "elements of a head",
    "attention_bias": "biases of all four attention projections",
    "qkv_bias": "biases of query, key and value alone",
    "output_bias": "bias of the output projection alone",
    "qk_norm": "whether queries and keys are normalised per head",
    "query_pre_attn_scalar": "scores are divided by the root of this",
    "attention_softcap": "soft cap of the scores",
    "sliding_window": "positions that a query of a sliding layer sees",
    "use_sliding_window": "False switches sliding_window off",
    "layer_types": "full_attention or sliding_attention, per layer",
    "max_window_layers": "layers before this one see everything",
    "sliding_window_pattern": "every so many layers one sees everything",
    "causal": "whether a position sees only those before it",
    # rotary embedding
    "rotary": "whether positions enter by rotary embedding",
    "rope_theta": "base of the rotary frequencies",
    "rope_local_theta": "base of the rotary frequencies in sliding layers",
    "rope_scaling": "scaling of the rotary frequencies, a dict with rope_type",
    "rope_parameters": "all rotary parameters, a dict, or one per layer type",
    "partial_rotary_factor": "share of a head that is rotated",
    "rotary_dim": "elements of a head that are rotated",
    "use_scaled_rope": "whether the rotary frequencies are scaled as in Llama 3.1",
    "rope_scaling_type": "kind of rotary scaling",
    "rope_scaling_factor": "factor of the rotary scaling: 8 for Llama 3.1 and 3.3, 32 for Llama 3.2",
    "rope_original_length": "context length before the rotary scaling",
    "rope_attention_factor": "yarn's factor of cosine and sine",
    "rope_beta_fast": "yarn's upper border",
    "rope_beta_slow": "yarn's lower border",
    # feed-forward
    "intermediate_dim": "width inside the feed-forward",
    "feed_forward_multiple": "the width inside the feed-forward is rounded up to a multiple of this",
    "feed_forward_multiplier": "the width inside the feed-forward is stretched by this",
    "nonlinearity": "activation of the feed-forward",
    "gated": "whether the feed-forward has a gate",
    "fused_gate_up": "whether gate and up are one matrix",
    "feed_forward_bias": "biases of the feed-forward",
    "num_experts": "experts of a mixture",
    "experts_per_token": "experts that see a token",
    "expert_dim": "width inside an expert",
    "router_scoring": "softmax or sigmoid",
    "selection_bias": "whether a bias joins the router scores when experts are chosen",
    "normalise_scores": "whether the kept router scores are made to sum to 1",
    "routed_scale": "factor of the routed experts' output",
    "sparse_step": "every so many layers one is a mixture",
    "dense_layers": "layers that are no mixture",
    "dense_layer_count": "layers at the start that are no mixture",
    "shared_expert_count": "shared experts, each as wide as a routed one",
    "shared_expert_dim": "width inside the shared expert",
    "shared_expert_gate": "whether the shared expert has a gate",
    # norms and residual stream
    "norm_type": "rmsnorm or layernorm",
    "norm_eps": "what a norm adds under its root",
    "norm_unit_offset": "whether the checkpoint holds norm weights minus one",
    "norm_bias": "biases of norms",
    "norms_branch_outputs": "whether attention and feed-forward are normalised once more before they are added",
    "norm_position": "pre or post",
    "parallel_residual": "whether attention and feed-forward stand side by side",
    "shared_norm": "whether attention and feed-forward side by side read the same norm",
    # both ends
    "vocab_size": "rows of the embedding",
    "token_count": "tokens of the tokenizer",
    "embedding_scale": "factor of the token embedding",
    "learned_positions": "rows of a learned position table",
    "token_types": "rows of a token type table",
    "embedding_norm": "whether the embedding ends in a norm",
    "tied": "whether the LM head is the embedding's table",
    "lm_head_bias": "bias of the LM head",
    "logit_softcap": "soft cap of the logits",
    "logit_scale": "factor of the logits",
    "image_size": "pixels of an image a side",
    "patch_size": "pixels of a patch a side",
    "channels": "colours of an image",
    "pooled": "whether an encoder ends in a pooler",
    "pooler_dim": "width of the pooler's output",
    "pooler_activation": "nonlinearity of the pooler",
    "model_class": "the class that the checkpoint was saved from",
    "label_count": "labels that the configuration lists",
    "num_classes": "classes of a classifier",
}

NONE_SAYS_NONE = frozenset({"sliding_window", "attention_softcap", "logit_softcap"})  # for others None says nothing

# Facts and their values; a function of the Facts where a value follows from others.
Statements = Mapping[str, Any]
# The fact that a key states, with a conversion where the value needs one.
KeyMeaning: TypeAlias = "str | tuple[str, Callable[[Any], Any]]"


@dataclass(frozen=True)
class Dialect:
    """The keys of one kind of configuration.

    Attributes:
        name: what to call it in messages.
        model_type: finds the architecture's name in a configuration; None where it does not say.
        keys: the fact that each key states, with a conversion where the value needs one.
        bookkeeping: patterns of keys that change nothing a model computes.
        neutral: keys that would change it, with the values at which they do not.
        prepare: brings a configuration into the form that `keys` describes.
        says: facts that this dialect settles whatever the architecture.
        usually: facts that it fills in where a configuration does not state them.
        requires: facts that it cannot state by itself and that no architecture's default may stand for.
    """

    name: str
    model_type: Callable[[Mapping[str, Any]], str | None]
    keys: Mapping[str, KeyMeaning]
    bookkeeping: Sequence[str] = ()
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: config
    says: Statements = field(default_factory=dict)
    usually: Statements = field(default_factory=dict)
    requires: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Architecture:
    """What one kind of model computes beyond what its configuration says.

    Attributes:
        model_types: its names in configurations.
        says: facts that its configuration never states or cannot change.
        usually: facts that hold where its configuration does not state them.
        requires: facts with no safe default: a configuration that leaves one out is an error.
        is_encoder: it has no LM head, and every position sees all others.
    """

    model_types: tuple[str, ...]
    says: Statements = field(default_factory=dict)
    usually: Statements = field(default_factory=dict)
    requires: frozenset[str] = frozenset()
    is_encoder: bool = False


@dataclass(frozen=True)
class Facts:
    """What a configuration, its dialect and its architecture say together."""

    stated: Mapping[str, Any]
    dialect: Dialect
    architecture: Architecture

    def get(self, fact: str, otherwise: Any = None) -> Any:
        """A fact, or `otherwise` where nobody states it. Raises SpecError where the architecture requires it."""
        defaults = {} if fact in self.dialect.requires else self.architecture.usually
        sources = (self.dialect.says, self.architecture.says, self.stated, self.dialect.usually, defaults)
        for source in sources:
            if fact in source:
                value = source[fact](self) if callable(source[fact]) else source[fact]
                if value is not None or fact in NONE_SAYS_NONE:
                    return value
        if fact in self.architecture.requires | self.dialect.requires:
            raise self.missing(fact)
        return otherwise

    def need(self, fact: str) -> Any:
        """A fact that must be stated. Raises SpecError naming the key that would state it."""
        value = self.get(fact)
        if value is None:
            raise self.missing(fact)
        return value

    def number(self, fact: str, otherwise: float | None = None) -> Any:
        """A fact to calculate with. Raises SpecError when it is missing, or no number."""
        value = self.get(fact, otherwise)
        if value is None:
            raise self.missing(fact)
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise SpecError(f"the {self.dialect.name} config says {self._keys_of(fact)}={value!r}: give a number")
        return value

    def count(self, fact: str, otherwise: int | None = None) -> int:
        """A fact to count with. Raises SpecError when it is missing, or no positive whole number."""
        value = self.number(fact, otherwise)
        if not isinstance(value, numbers.Integral) or value < 1:
            raise SpecError(f"the {self.dialect.name} config says {self._keys_of(fact)}={value!r}: give 1 or more")
        return int(value)

    def missing(self, fact: str) -> SpecError:
        """The error that nobody states a fact."""
        return SpecError(f"the {self.dialect.name} config has no {self._keys_of(fact)}: add it ({FACTS[fact]})")

    def _keys_of(self, fact: str) -> str:
        keys = [repr(key) for key, meaning in self.dialect.keys.items() if stated_fact(meaning) == fact]
        return " or ".join(keys) or fact


def stated_fact(meaning: KeyMeaning) -> str:
    """The name of the fact that a key states."""
    return meaning if isinstance(meaning, str) else meaning[0]


def stated(**values: Any) -> dict[str, Any]:
    """The values that somebody stated; the others are the spec's to fill in."""
    return {name: value for name, value in values.items() if value is not None}
