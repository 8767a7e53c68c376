# SPDX-License-Identifier: Apache-2.0
"""What a module computes, without a word about hardware: frozen specs, and the factory that reads them from configs."""

from tttdebug.specs.attention import AttentionSpec, RopeSpec
from tttdebug.specs.embedding import EmbeddingSpec, PatchEmbeddingSpec
from tttdebug.specs.factory import ModuleSpecFactory
from tttdebug.specs.feed_forward import FeedForwardSpec, MixtureOfExpertsSpec
from tttdebug.specs.heads import ClassifierSpec, LMHeadSpec, PoolerSpec
from tttdebug.specs.layers import DecoderLayerSpec, EncoderLayerSpec
from tttdebug.specs.models import CausalLMSpec, EncoderModelSpec
from tttdebug.specs.module_spec import ModuleSpec, Note
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.validation import InvalidSpecError, Violation

__all__ = [
    "AttentionSpec",
    "RopeSpec",
    "FeedForwardSpec",
    "MixtureOfExpertsSpec",
    "NormSpec",
    "EmbeddingSpec",
    "PatchEmbeddingSpec",
    "LMHeadSpec",
    "PoolerSpec",
    "ClassifierSpec",
    "DecoderLayerSpec",
    "EncoderLayerSpec",
    "CausalLMSpec",
    "EncoderModelSpec",
    "ModuleSpec",
    "ModuleSpecFactory",
    "Note",
    "InvalidSpecError",
    "Violation",
]
