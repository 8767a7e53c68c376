# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for valid specs, as keyword arguments so that constructor and builder can both be fed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tttdebug.specs import (
    AttentionSpec,
    CausalLMSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    ModuleSpec,
    NormSpec,
    RopeSpec,
)

sizes = st.integers(1, 5000)
positive = st.floats(1e-9, 1e6, allow_subnormal=False)
flags = st.booleans()


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


@st.composite
def rope_arguments(draw: st.DrawFn, head_dim: int = 64) -> dict[str, Any]:
    scaling = draw(st.sampled_from(["default", "linear", "llama3", "yarn"]))
    arguments = {
        "theta": draw(positive),
        "scaling": scaling,
        "rotary_dim": draw(maybe(st.integers(1, head_dim // 2).map(lambda half: 2 * half))),
    }
    if scaling != "default":
        arguments |= {"factor": draw(positive), "original_max_position": draw(sizes)}
    return arguments


def norm_arguments(hidden_dim: int | None = None) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"hidden_dim": sizes if hidden_dim is None else st.just(hidden_dim)},
        optional={
            "eps": positive,
            "norm_type": st.sampled_from(["rmsnorm", "layernorm"]),
            "unit_offset": flags,
            "bias": flags,
        },
    )


@st.composite
def attention_arguments(draw: st.DrawFn, hidden_dim: int | None = None) -> dict[str, Any]:
    kv_heads, group, head_dim = draw(st.integers(1, 8)), draw(st.integers(1, 8)), 2 * draw(st.integers(1, 64))
    return {
        "hidden_dim": draw(sizes) if hidden_dim is None else hidden_dim,
        "num_heads": kv_heads * group,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        **draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "rope": maybe(rope_arguments(head_dim).map(lambda arguments: RopeSpec(**arguments))),
                    "max_sequence_length": sizes,
                    "qkv_bias": flags,
                    "output_bias": flags,
                    "qk_norm": maybe(norm_arguments(head_dim).map(lambda arguments: NormSpec(**arguments))),
                    "sliding_window": maybe(sizes),
                    "logit_softcap": maybe(positive),
                    "scale": maybe(positive),
                    "causal": flags,
                    "attention_type": st.sampled_from(["standard", "flash"]),
                },
            )
        ),
    }


def feed_forward_arguments(hidden_dim: int | None = None) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "hidden_dim": sizes if hidden_dim is None else st.just(hidden_dim),
            "intermediate_dim": sizes,
            "activation": st.sampled_from(["swiglu", "geglu", "geglu_tanh", "reglu"]),
        },
        optional={"bias": flags, "fused_gate_up": flags},
    )


@st.composite
def mixture_arguments(draw: st.DrawFn, hidden_dim: int | None = None) -> dict[str, Any]:
    experts = draw(st.integers(1, 64))
    return {
        "expert": FeedForwardSpec(**draw(feed_forward_arguments(hidden_dim))),
        "num_experts": experts,
        "experts_per_token": draw(st.integers(1, experts)),
        "normalise_scores": draw(flags),
    }


@st.composite
def decoder_layer_arguments(draw: st.DrawFn, hidden_dim: int | None = None) -> dict[str, Any]:
    hidden_dim = draw(sizes) if hidden_dim is None else hidden_dim
    norm = norm_arguments(hidden_dim).map(lambda arguments: NormSpec(**arguments))
    arguments = {
        "attention": AttentionSpec(**draw(attention_arguments(hidden_dim))),
        "feed_forward": draw(
            feed_forward_arguments(hidden_dim).map(lambda each: FeedForwardSpec(**each))
            | mixture_arguments(hidden_dim).map(lambda each: MixtureOfExpertsSpec(**each))
        ),
        "input_norm": draw(norm),
        "post_attention_norm": draw(norm),
    }
    if draw(flags):
        arguments |= {"pre_feed_forward_norm": draw(norm), "post_feed_forward_norm": draw(norm)}
    return arguments


@st.composite
def causal_lm_arguments(draw: st.DrawFn) -> dict[str, Any]:
    hidden_dim, vocab_size = draw(sizes), draw(sizes)
    layer = decoder_layer_arguments(hidden_dim).map(lambda arguments: DecoderLayerSpec(**arguments))
    return {
        "embedding": EmbeddingSpec(vocab_size, hidden_dim, scale=draw(maybe(positive))),
        "layers": tuple(draw(st.lists(layer, min_size=1, max_size=3))),
        "final_norm": NormSpec(**draw(norm_arguments(hidden_dim))),
        "lm_head": LMHeadSpec(hidden_dim, vocab_size, tied=draw(flags)),
    }


any_spec_class_with_arguments: st.SearchStrategy[tuple[type[ModuleSpec], dict[str, Any]]] = st.one_of(
    st.tuples(st.just(RopeSpec), rope_arguments()),
    st.tuples(st.just(NormSpec), norm_arguments()),
    st.tuples(st.just(AttentionSpec), attention_arguments()),
    st.tuples(st.just(FeedForwardSpec), feed_forward_arguments()),
    st.tuples(st.just(MixtureOfExpertsSpec), mixture_arguments()),
    st.tuples(st.just(DecoderLayerSpec), decoder_layer_arguments()),
    st.tuples(st.just(CausalLMSpec), causal_lm_arguments()),
)
