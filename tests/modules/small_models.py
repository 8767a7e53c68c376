# SPDX-License-Identifier: Apache-2.0
"""Specs of small models that between them make every call a port can make of ttnn."""

from tttdebug.specs import (
    AttentionSpec,
    CausalLMSpec,
    ClassifierSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    EncoderLayerSpec,
    EncoderModelSpec,
    FeedForwardSpec,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    NormSpec,
    PatchEmbeddingSpec,
    PoolerSpec,
    RopeSpec,
)

LAYERNORM = {"norm_type": "layernorm", "bias": True}


def language_model(network, width=256, norm=None, parallel=False, **attention):
    norm = norm or NormSpec(width)
    heads = AttentionSpec(width, 4, 2, max_sequence_length=256, **attention)
    layer = DecoderLayerSpec(heads, network, norm, None if parallel else norm, parallel_residual=parallel)
    return CausalLMSpec(EmbeddingSpec(128, width), (layer,), norm, LMHeadSpec(width, 128), max_sequence_length=256)


SHARED = {"shared_expert": FeedForwardSpec(256, 64)}
MODELS = {
    "llama": language_model(FeedForwardSpec(256, 512)),
    "heads_that_fill_no_tile": language_model(FeedForwardSpec(320, 512), 320),
    "head_norms_and_window": language_model(
        FeedForwardSpec(160, 96), 160, qk_norm=NormSpec(40), sliding_window=40, head_dim=40
    ),
    "soft_cap": language_model(FeedForwardSpec(256, 96, "geglu_tanh"), logit_softcap=20.0),
    "side_by_side": language_model(
        FeedForwardSpec(256, 96, "relu2", bias=True),
        norm=NormSpec(256, **LAYERNORM),
        parallel=True,
        qkv_bias=True,
        output_bias=True,
        rope=RopeSpec(rotary_dim=24),
    ),
    "experts": language_model(MixtureOfExpertsSpec(FeedForwardSpec(256, 64), 8, 2, shared_expert_gate=True, **SHARED)),
    "sigmoid_routing": language_model(
        MixtureOfExpertsSpec(FeedForwardSpec(256, 64), 8, 2, "sigmoid", selection_bias=True, routed_scale=2.5, **SHARED)
    ),
    "wide": language_model(FeedForwardSpec(8224, 96), 8224, head_dim=64),
    "large": language_model(FeedForwardSpec(4096, 2048), 4096, head_dim=128),
}


def encoder(position):
    """An encoder with norms before ("pre", of images) or after ("post", of token ids) its branches."""
    norm = NormSpec(160, **LAYERNORM)
    attention = AttentionSpec(160, 4, rope=None, causal=False, qkv_bias=True, output_bias=True)
    layer = EncoderLayerSpec(attention, FeedForwardSpec(160, 96, "gelu", bias=True), norm, norm, position)
    ends = {"pooler": PoolerSpec(160), "classifier": ClassifierSpec(160, 10), "max_sequence_length": 50}
    if position == "pre":
        return EncoderModelSpec(PatchEmbeddingSpec(56, 8, 160), (layer,), norm, **ends)
    embedding = EmbeddingSpec(100, 160, learned_positions=50, token_types=2, norm=norm)
    return EncoderModelSpec(embedding, (layer,), **ends)


ENCODERS = {position: encoder(position) for position in ("pre", "post")}
