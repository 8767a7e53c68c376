# SPDX-License-Identifier: Apache-2.0
"""`ModuleSpecFactory`: specs from the configurations that models come with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tttdebug.errors import SpecError
from tttdebug.specs.attention import AttentionSpec, RopeSpec
from tttdebug.specs.embedding import EmbeddingSpec
from tttdebug.specs.feed_forward import FeedForwardSpec
from tttdebug.specs.heads import LMHeadSpec
from tttdebug.specs.layers import DecoderLayerSpec
from tttdebug.specs.models import CausalLMSpec
from tttdebug.specs.norm import NormSpec


def _values(config: Any) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    if callable(getattr(config, "to_dict", None)):
        return dict(config.to_dict())
    raise SpecError(f"config is {type(config).__name__}: give a dict or a configuration object with to_dict()")


def _need(values: Mapping[str, Any], key: str) -> Any:
    if key not in values:
        raise SpecError(f"config has no {key!r}: give it; the keys there are {', '.join(sorted(values))}")
    return values[key]


class ModuleSpecFactory:
    """Specs from a Hugging Face configuration object or dict; raises SpecError naming the key at fault."""

    @staticmethod
    def attention_from_config(config: Any, layer: int = 0) -> AttentionSpec:
        """The self-attention of one layer."""
        values = _values(config)
        rope = {"rope_theta": values.get("rope_theta", 10000.0), **(values.get("rope_scaling") or {})}
        rope.update(values.get("rope_parameters") or {})
        return AttentionSpec(
            hidden_dim=_need(values, "hidden_size"),
            num_heads=_need(values, "num_attention_heads"),
            num_kv_heads=values.get("num_key_value_heads"),  # type: ignore[arg-type]
            head_dim=values.get("head_dim"),  # type: ignore[arg-type]
            rope=RopeSpec(
                theta=rope["rope_theta"],
                scaling=rope.get("rope_type", rope.get("type", "default")),
                factor=rope.get("factor", 1.0),
                low_freq_factor=rope.get("low_freq_factor", 1.0),
                high_freq_factor=rope.get("high_freq_factor", 4.0),
                original_max_position=rope.get("original_max_position_embeddings"),
            ),
            max_sequence_length=values.get("max_position_embeddings", 8192),
            qkv_bias=values.get("attention_bias", False),
            output_bias=values.get("attention_bias", False),
        )

    @staticmethod
    def feed_forward_from_config(config: Any, layer: int = 0) -> FeedForwardSpec:
        """The feed-forward network of one layer."""
        values = _values(config)
        return FeedForwardSpec(
            hidden_dim=_need(values, "hidden_size"),
            intermediate_dim=_need(values, "intermediate_size"),
            bias=values.get("mlp_bias", False),
        )

    @staticmethod
    def norm_from_config(config: Any) -> NormSpec:
        """The norm that stands before each branch and at the end."""
        values = _values(config)
        return NormSpec(_need(values, "hidden_size"), eps=values.get("rms_norm_eps", 1e-6))

    @staticmethod
    def embedding_from_config(config: Any) -> EmbeddingSpec:
        """The token embedding."""
        values = _values(config)
        return EmbeddingSpec(_need(values, "vocab_size"), _need(values, "hidden_size"))

    @staticmethod
    def lm_head_from_config(config: Any) -> LMHeadSpec:
        """The projection to logits."""
        values = _values(config)
        tied = values.get("tie_word_embeddings", False)
        return LMHeadSpec(_need(values, "hidden_size"), _need(values, "vocab_size"), tied=tied)

    @staticmethod
    def decoder_layer_from_config(config: Any, layer: int = 0) -> DecoderLayerSpec:
        """One decoder layer."""
        norm = ModuleSpecFactory.norm_from_config(config)
        return DecoderLayerSpec(
            attention=ModuleSpecFactory.attention_from_config(config, layer),
            feed_forward=ModuleSpecFactory.feed_forward_from_config(config, layer),
            input_norm=norm,
            post_attention_norm=norm,
        )

    @staticmethod
    def causal_lm_from_config(config: Any) -> CausalLMSpec:
        """The whole language model."""
        values = _values(config)
        layers = range(_need(values, "num_hidden_layers"))
        return CausalLMSpec(
            embedding=ModuleSpecFactory.embedding_from_config(config),
            layers=tuple(ModuleSpecFactory.decoder_layer_from_config(config, layer) for layer in layers),
            final_norm=ModuleSpecFactory.norm_from_config(config),
            lm_head=ModuleSpecFactory.lm_head_from_config(config),
            max_sequence_length=values.get("max_position_embeddings", 8192),
        )
