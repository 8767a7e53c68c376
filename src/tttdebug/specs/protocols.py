# SPDX-License-Identifier: Apache-2.0
"""Protocols: what an object of the user's own must offer to stand in for a spec, and the spec it stands for.

A protocol `XSpecLike` asks for the essentials of `XSpec` only; `conformance.as_spec` makes the spec of such an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class RopeSpecLike(Protocol):
    """What stands in for a `RopeSpec`."""

    @property
    def theta(self) -> float: ...


@runtime_checkable
class NormSpecLike(Protocol):
    """What stands in for a `NormSpec`."""

    @property
    def hidden_dim(self) -> int: ...
    @property
    def eps(self) -> float: ...
    @property
    def norm_type(self) -> str: ...


@runtime_checkable
class AttentionSpecLike(Protocol):
    """What stands in for an `AttentionSpec`."""

    @property
    def hidden_dim(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...


@runtime_checkable
class FeedForwardSpecLike(Protocol):
    """What stands in for a `FeedForwardSpec`."""

    @property
    def hidden_dim(self) -> int: ...
    @property
    def intermediate_dim(self) -> int: ...
    @property
    def activation(self) -> str: ...


@runtime_checkable
class MixtureOfExpertsSpecLike(Protocol):
    """What stands in for a `MixtureOfExpertsSpec`."""

    @property
    def expert(self) -> FeedForwardSpecLike: ...
    @property
    def num_experts(self) -> int: ...
    @property
    def experts_per_token(self) -> int: ...


@runtime_checkable
class EmbeddingSpecLike(Protocol):
    """What stands in for an `EmbeddingSpec`."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_dim(self) -> int: ...


@runtime_checkable
class PatchEmbeddingSpecLike(Protocol):
    """What stands in for a `PatchEmbeddingSpec`."""

    @property
    def image_size(self) -> int: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def hidden_dim(self) -> int: ...


@runtime_checkable
class LMHeadSpecLike(Protocol):
    """What stands in for an `LMHeadSpec`."""

    @property
    def hidden_dim(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...


@runtime_checkable
class DecoderLayerSpecLike(Protocol):
    """What stands in for a `DecoderLayerSpec`."""

    @property
    def attention(self) -> AttentionSpecLike: ...
    @property
    def feed_forward(self) -> FeedForwardSpecLike | MixtureOfExpertsSpecLike: ...
    @property
    def input_norm(self) -> NormSpecLike: ...
    @property
    def post_attention_norm(self) -> NormSpecLike | None: ...


@runtime_checkable
class EncoderLayerSpecLike(Protocol):
    """What stands in for an `EncoderLayerSpec`."""

    @property
    def attention(self) -> AttentionSpecLike: ...
    @property
    def feed_forward(self) -> FeedForwardSpecLike: ...
    @property
    def attention_norm(self) -> NormSpecLike: ...
    @property
    def feed_forward_norm(self) -> NormSpecLike: ...
    @property
    def norm_position(self) -> str: ...


@runtime_checkable
class CausalLMSpecLike(Protocol):
    """What stands in for a `CausalLMSpec`."""

    @property
    def embedding(self) -> EmbeddingSpecLike: ...
    @property
    def layers(self) -> Sequence[DecoderLayerSpecLike]: ...
    @property
    def final_norm(self) -> NormSpecLike: ...
    @property
    def lm_head(self) -> LMHeadSpecLike: ...


@runtime_checkable
class PoolerSpecLike(Protocol):
    """What stands in for a `PoolerSpec`."""

    @property
    def hidden_dim(self) -> int: ...


@runtime_checkable
class ClassifierSpecLike(Protocol):
    """What stands in for a `ClassifierSpec`."""

    @property
    def hidden_dim(self) -> int: ...
    @property
    def num_classes(self) -> int: ...


@runtime_checkable
class EncoderModelSpecLike(Protocol):
    """What stands in for an `EncoderModelSpec`."""

    @property
    def embedding(self) -> EmbeddingSpecLike | PatchEmbeddingSpecLike: ...
    @property
    def layers(self) -> Sequence[EncoderLayerSpecLike]: ...
