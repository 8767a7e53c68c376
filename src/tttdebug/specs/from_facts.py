# SPDX-License-Identifier: Apache-2.0
"""From facts to specs, a function per spec. What no fact says is left to the spec's own default."""

from __future__ import annotations

import sys

from tttdebug.errors import SpecError
from tttdebug.specs.architectures import UNNAMED
from tttdebug.specs.attention import AttentionSpec
from tttdebug.specs.embedding import EmbeddingSpec, PatchEmbeddingSpec
from tttdebug.specs.facts import Facts, stated
from tttdebug.specs.feed_forward import GATE_NONLINEARITY, FeedForwardSpec, MixtureOfExpertsSpec
from tttdebug.specs.heads import ClassifierSpec, LMHeadSpec, PoolerSpec
from tttdebug.specs.layers import DecoderLayerSpec, EncoderLayerSpec
from tttdebug.specs.models import CausalLMSpec, EncoderModelSpec
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.rope_from_facts import rope_spec

# Nonlinearities by the names that configurations give them; all tanh approximations of gelu are the same function.
NONLINEARITIES = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "squared_relu": "relu2",
}
GATED_ACTIVATION: dict[str, str] = {nonlinearity: activation for activation, nonlinearity in GATE_NONLINEARITY.items()}


def norm(facts: Facts, hidden_dim: int | None = None) -> NormSpec:
    """The norm over the residual stream, or one of the same kind over `hidden_dim` elements."""
    return NormSpec(
        **stated(
            hidden_dim=facts.need("hidden_dim") if hidden_dim is None else hidden_dim,
            eps=facts.get("norm_eps"),
            norm_type=facts.get("norm_type"),
            unit_offset=facts.get("norm_unit_offset"),
            bias=facts.get("norm_bias"),
        )
    )


def attention(facts: Facts, layer: int) -> AttentionSpec:
    """The self-attention of one layer."""
    _expect_layer(facts, layer)
    kind = _layer_type(facts, layer)
    slides = kind != "full_attention" and facts.get("use_sliding_window", True)
    heads = stated(
        hidden_dim=facts.need("hidden_dim"),
        num_heads=facts.need("num_heads"),
        num_kv_heads=facts.get("num_kv_heads"),
        head_dim=facts.get("head_dim"),
        max_sequence_length=facts.get("max_sequence_length"),
        qkv_bias=facts.get("qkv_bias", facts.get("attention_bias")),
        output_bias=facts.get("output_bias", facts.get("attention_bias")),
        sliding_window=facts.get("sliding_window") if slides else None,
        logit_softcap=facts.get("attention_softcap"),
        causal=facts.get("causal"),
    )
    plain = AttentionSpec(**heads, rope=None)  # settles head_dim, which what follows is measured in
    return plain.replace(
        num_kv_heads=plain.num_kv_heads,
        head_dim=plain.head_dim,
        rope=rope_spec(facts, kind, plain.head_dim) if facts.get("rotary", True) else None,
        qk_norm=norm(facts, plain.head_dim) if facts.get("qk_norm") else None,
        scale=_scale(facts, plain.head_dim),
    )


def _expect_layer(facts: Facts, layer: int) -> None:
    """Raise SpecError for a number that no layer has."""
    last = facts.count("num_layers") - 1 if facts.get("num_layers") is not None else sys.maxsize
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer <= last:
        raise SpecError(
            f"layer {layer!r} is not in the model: give 0 {f'to {last}' if last < sys.maxsize else 'or more'}"
        )


def _layer_type(facts: Facts, layer: int) -> str | None:
    """What `layer_types` says of a layer; None where nobody says anything."""
    kinds = facts.get("layer_types")
    if kinds is None:
        return None
    if not isinstance(kinds, list) or layer >= len(kinds):
        raise SpecError(f"config has layer_types={kinds!r}: give a list with an entry for every layer")
    if kinds[layer] not in ("full_attention", "sliding_attention"):
        raise SpecError(
            f"config has layer_types[{layer}]={kinds[layer]!r}: only full_attention and sliding_attention are supported"
        )
    return str(kinds[layer])


def _scale(facts: Facts, head_dim: int) -> float | None:
    """The factor of the scores where it is not what head_dim says."""
    scalar = facts.number("query_pre_attn_scalar", head_dim)
    if scalar <= 0:
        raise SpecError(f"config has query_pre_attn_scalar={scalar!r}: give a positive number")
    return None if scalar == head_dim else float(scalar**-0.5)


def feed_forward(facts: Facts, layer: int) -> FeedForwardSpec | MixtureOfExpertsSpec:
    """The feed-forward network of one layer, or its mixture of experts."""
    _expect_layer(facts, layer)
    is_mixture = (
        facts.get("num_experts")
        and layer not in facts.get("dense_layers", [])
        and (layer + 1) % facts.count("sparse_step", 1) == 0
    )
    if not is_mixture:
        return _network(facts, facts.need("intermediate_dim"))
    shared_dim = facts.get("shared_expert_dim")
    return MixtureOfExpertsSpec(
        **stated(
            expert=_network(facts, facts.get("expert_dim") or facts.need("intermediate_dim")),
            num_experts=facts.need("num_experts"),
            experts_per_token=facts.need("experts_per_token"),
            router_scoring=facts.get("router_scoring"),
            normalise_scores=facts.get("normalise_scores"),
            routed_scale=facts.get("routed_scale"),
            selection_bias=facts.get("selection_bias"),
            shared_expert=_network(facts, shared_dim) if shared_dim else None,
            shared_expert_gate=facts.get("shared_expert_gate"),
        )
    )


def _network(facts: Facts, intermediate_dim: int) -> FeedForwardSpec:
    return FeedForwardSpec(
        **stated(
            hidden_dim=facts.need("hidden_dim"),
            intermediate_dim=intermediate_dim,
            activation=_activation(facts),
            bias=facts.get("feed_forward_bias"),
            fused_gate_up=facts.get("fused_gate_up"),
        )
    )


def _activation(facts: Facts) -> str | None:
    name = facts.get("nonlinearity")
    if name is None:
        return None
    known = GATED_ACTIVATION if facts.get("gated", True) else {plain: plain for plain in NONLINEARITIES.values()}
    activation = known.get(NONLINEARITIES.get(str(name), ""))
    if activation is None:
        supported = ", ".join(name for name, plain in NONLINEARITIES.items() if plain in known)
        raise SpecError(f"config has the activation {name!r}, which no spec can express: supported are {supported}")
    return activation


def embedding(facts: Facts) -> EmbeddingSpec | PatchEmbeddingSpec:
    """The embedding of tokens, or of an image's patches."""
    if facts.get("image_size") is not None:
        return PatchEmbeddingSpec(
            **stated(
                image_size=facts.need("image_size"),
                patch_size=facts.need("patch_size"),
                hidden_dim=facts.need("hidden_dim"),
                channels=facts.get("channels"),
            )
        )
    return _token_embedding(facts)


def _token_embedding(facts: Facts) -> EmbeddingSpec:
    return EmbeddingSpec(
        **stated(
            vocab_size=facts.need("vocab_size"),
            hidden_dim=facts.need("hidden_dim"),
            scale=facts.get("embedding_scale"),
            learned_positions=facts.get("learned_positions"),
            token_types=facts.get("token_types"),
            norm=norm(facts) if facts.get("embedding_norm") else None,
        )
    )


def lm_head(facts: Facts) -> LMHeadSpec:
    """The projection to logits."""
    return LMHeadSpec(
        **stated(
            hidden_dim=facts.need("hidden_dim"),
            vocab_size=facts.need("vocab_size"),
            tied=facts.get("tied"),
            bias=facts.get("lm_head_bias"),
            logit_softcap=facts.get("logit_softcap"),
            logit_scale=facts.get("logit_scale"),
        )
    )


def decoder_layer(facts: Facts, layer: int) -> DecoderLayerSpec:
    """One decoder layer."""
    _expect(facts, is_encoder=False)
    branch_norm = norm(facts) if facts.get("norms_branch_outputs") else None
    is_parallel = facts.get("parallel_residual", False)
    return DecoderLayerSpec(
        attention=attention(facts, layer),
        feed_forward=feed_forward(facts, layer),
        input_norm=norm(facts),
        post_attention_norm=None if is_parallel and facts.get("shared_norm") else norm(facts),
        pre_feed_forward_norm=branch_norm,
        post_feed_forward_norm=branch_norm,
        parallel_residual=is_parallel,
    )


def encoder_layer(facts: Facts, layer: int) -> EncoderLayerSpec:
    """One encoder layer."""
    _expect(facts, is_encoder=True)
    network = _network(facts, facts.need("intermediate_dim"))
    return EncoderLayerSpec(attention(facts, layer), network, norm(facts), norm(facts), facts.need("norm_position"))


def causal_lm(facts: Facts) -> CausalLMSpec:
    """The whole language model."""
    _expect(facts, is_encoder=False)
    return CausalLMSpec(
        embedding=_token_embedding(facts),
        layers=tuple(decoder_layer(facts, layer) for layer in range(facts.count("num_layers"))),
        final_norm=norm(facts),
        lm_head=lm_head(facts),
        **stated(max_sequence_length=facts.get("max_sequence_length")),
    )


def encoder(facts: Facts) -> EncoderModelSpec:
    """The whole encoder."""
    _expect(facts, is_encoder=True)
    first = embedding(facts)
    pooler = stated(
        hidden_dim=first.hidden_dim, output_dim=facts.get("pooler_dim"), activation=facts.get("pooler_activation")
    )
    head = PoolerSpec(**pooler) if facts.get("pooled") else None
    classes = facts.get("num_classes")
    return EncoderModelSpec(
        embedding=first,
        layers=tuple(encoder_layer(facts, layer) for layer in range(facts.count("num_layers"))),
        final_norm=norm(facts) if facts.get("norm_position") == "pre" else None,
        pooler=head,
        classifier=ClassifierSpec(head.output_dim if head else first.hidden_dim, classes) if classes else None,
        max_sequence_length=first.learned_positions or facts.need("max_sequence_length"),
    )


def _expect(facts: Facts, is_encoder: bool) -> None:
    """Raise SpecError where a layer or model of the other kind was asked for, or it is not said which kind it is."""
    if facts.architecture is UNNAMED:
        raise SpecError("config has no 'model_type', which says where norms, biases and positions stand: add it")
    if facts.architecture.is_encoder != is_encoder:
        is_what = (
            "an encoder: use encoder_from_config and encoder_layer_from_config"
            if facts.architecture.is_encoder
            else "a decoder: use causal_lm_from_config and decoder_layer_from_config"
        )
        raise SpecError(f"{' or '.join(facts.architecture.model_types)} is {is_what}")
