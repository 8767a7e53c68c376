# SPDX-License-Identifier: Apache-2.0
"""`ModuleSpecFactory`: specs from the configurations that models come with."""

from __future__ import annotations

from typing import Any

from tttdebug.specs import from_facts
from tttdebug.specs.attention import AttentionSpec
from tttdebug.specs.config_reading import read_config
from tttdebug.specs.embedding import EmbeddingSpec, PatchEmbeddingSpec
from tttdebug.specs.facts import Architecture
from tttdebug.specs.feed_forward import FeedForwardSpec, MixtureOfExpertsSpec
from tttdebug.specs.heads import LMHeadSpec
from tttdebug.specs.layers import DecoderLayerSpec, EncoderLayerSpec
from tttdebug.specs.models import CausalLMSpec, EncoderModelSpec
from tttdebug.specs.norm import NormSpec


class ModuleSpecFactory:
    """Specs from a configuration: a dict, or an object with `to_dict()` such as transformers' configs.

    Hugging Face's keys are understood, GPT-style ones (`n_embd`, `n_head`), Meta's params.json, and GGUF metadata. What
    a model computes beyond what its configuration says comes from the table of the architecture that `model_type`
    names; pass `architecture` for one that has no table here.

    Every method raises SpecError for a configuration that lacks a key, holds an impossible value, contradicts itself,
    describes an unknown architecture, or has an unknown key that may change the mathematics; other unknown keys are
    listed in a warning.
    """

    @staticmethod
    def attention_from_config(
        config: Any, layer: int = 0, *, architecture: Architecture | None = None
    ) -> AttentionSpec:
        """The self-attention of one layer."""
        return from_facts.attention(read_config(config, architecture), layer)

    @staticmethod
    def feed_forward_from_config(
        config: Any, layer: int = 0, *, architecture: Architecture | None = None
    ) -> FeedForwardSpec | MixtureOfExpertsSpec:
        """The feed-forward network of one layer, or its mixture of experts."""
        return from_facts.feed_forward(read_config(config, architecture), layer)

    @staticmethod
    def norm_from_config(config: Any, *, architecture: Architecture | None = None) -> NormSpec:
        """The norm over the residual stream, the same in all layers and at the end."""
        return from_facts.norm(read_config(config, architecture))

    @staticmethod
    def embedding_from_config(
        config: Any, *, architecture: Architecture | None = None
    ) -> EmbeddingSpec | PatchEmbeddingSpec:
        """The embedding of tokens, or of an image's patches."""
        return from_facts.embedding(read_config(config, architecture))

    @staticmethod
    def lm_head_from_config(config: Any, *, architecture: Architecture | None = None) -> LMHeadSpec:
        """The projection to logits."""
        return from_facts.lm_head(read_config(config, architecture))

    @staticmethod
    def decoder_layer_from_config(
        config: Any, layer: int = 0, *, architecture: Architecture | None = None
    ) -> DecoderLayerSpec:
        """One decoder layer."""
        return from_facts.decoder_layer(read_config(config, architecture), layer)

    @staticmethod
    def encoder_layer_from_config(
        config: Any, layer: int = 0, *, architecture: Architecture | None = None
    ) -> EncoderLayerSpec:
        """One encoder layer."""
        return from_facts.encoder_layer(read_config(config, architecture), layer)

    @staticmethod
    def causal_lm_from_config(config: Any, *, architecture: Architecture | None = None) -> CausalLMSpec:
        """The whole language model."""
        return from_facts.causal_lm(read_config(config, architecture))

    @staticmethod
    def encoder_from_config(config: Any, *, architecture: Architecture | None = None) -> EncoderModelSpec:
        """The whole encoder: with its classifier when `architectures` names a classification class, else bare."""
        return from_facts.encoder(read_config(config, architecture))
