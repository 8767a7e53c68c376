# SPDX-License-Identifier: Apache-2.0
"""What a module computes, without a word about hardware.

Frozen specs, each with a builder, a protocol that other objects can satisfy, its costs, and a factory that reads it
from the configurations that models come with.
"""

from tttdebug.specs.attention import AttentionSpec, RopeSpec
from tttdebug.specs.conformance import as_spec, explain_mismatch
from tttdebug.specs.cost import Cost, Workload
from tttdebug.specs.embedding import EmbeddingSpec, PatchEmbeddingSpec
from tttdebug.specs.factory import ModuleSpecFactory
from tttdebug.specs.facts import Architecture
from tttdebug.specs.feed_forward import FeedForwardSpec, MixtureOfExpertsSpec
from tttdebug.specs.heads import ClassifierSpec, LMHeadSpec, PoolerSpec
from tttdebug.specs.layers import DecoderLayerSpec, EncoderLayerSpec
from tttdebug.specs.models import CausalLMSpec, EncoderModelSpec
from tttdebug.specs.module_spec import ModuleSpec, Note
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.protocols import (
    AttentionSpecLike,
    CausalLMSpecLike,
    ClassifierSpecLike,
    DecoderLayerSpecLike,
    EmbeddingSpecLike,
    EncoderLayerSpecLike,
    EncoderModelSpecLike,
    FeedForwardSpecLike,
    LMHeadSpecLike,
    MixtureOfExpertsSpecLike,
    NormSpecLike,
    PatchEmbeddingSpecLike,
    PoolerSpecLike,
    RopeSpecLike,
)
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
    "Architecture",
    "Cost",
    "Workload",
    "Note",
    "InvalidSpecError",
    "Violation",
    "as_spec",
    "explain_mismatch",
    "AttentionSpecLike",
    "RopeSpecLike",
    "FeedForwardSpecLike",
    "MixtureOfExpertsSpecLike",
    "NormSpecLike",
    "EmbeddingSpecLike",
    "PatchEmbeddingSpecLike",
    "LMHeadSpecLike",
    "PoolerSpecLike",
    "ClassifierSpecLike",
    "DecoderLayerSpecLike",
    "EncoderLayerSpecLike",
    "CausalLMSpecLike",
    "EncoderModelSpecLike",
]
