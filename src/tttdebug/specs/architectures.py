# SPDX-License-Identifier: Apache-2.0
"""The architectures that configurations name: a table each of what their Hugging Face class computes by itself.

`usually` holds the defaults of the configuration class; where such a default is a size, the fact is required instead.
"""

from __future__ import annotations

from tttdebug.specs.facts import Architecture, Facts

SIZES = frozenset({"max_sequence_length", "vocab_size", "intermediate_dim"})
HEADS = frozenset({"num_kv_heads", "head_dim"})
ROTARY_DECODER = {
    "rotary": True,
    "causal": True,
    "gated": True,
    "norm_type": "rmsnorm",
    "nonlinearity": "silu",
    "norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "tied": False,
}
LAYERNORM_TRANSFORMER = {
    "rotary": False,
    "gated": False,
    "norm_type": "layernorm",
    "norm_bias": True,
    "output_bias": True,
    "feed_forward_bias": True,
}


def _late_layers_slide(facts: Facts) -> list[str]:
    first = facts.number("max_window_layers", 28)
    return ["sliding_attention" if layer >= first else "full_attention" for layer in range(facts.count("num_layers"))]


def _every_other_layer_slides(facts: Facts) -> list[str]:
    return ["full_attention" if layer % 2 else "sliding_attention" for layer in range(facts.count("num_layers"))]


def _all_but_every_sixth_layer_slide(facts: Facts) -> list[str]:
    every = facts.count("sliding_window_pattern", 6)
    layers = range(1, facts.count("num_layers") + 1)
    return ["sliding_attention" if layer % every else "full_attention" for layer in layers]


def _is_classifier(facts: Facts) -> bool:
    return str(facts.get("model_class")).endswith(("ForSequenceClassification", "ForImageClassification"))


UNNAMED = Architecture(model_types=())

LLAMA = Architecture(
    model_types=("llama",),
    usually={**ROTARY_DECODER, "feed_forward_bias": False},
    requires=SIZES,
)
MISTRAL = Architecture(
    model_types=("mistral",),
    says={"attention_bias": False, "feed_forward_bias": False},
    usually={**ROTARY_DECODER, "sliding_window": 4096},
    requires=SIZES | {"num_kv_heads"},
)
MIXTRAL = Architecture(
    model_types=("mixtral",),
    says={"attention_bias": False, "feed_forward_bias": False, "normalise_scores": True},
    usually={**ROTARY_DECODER, "norm_eps": 1e-5, "rope_theta": 1e6},
    requires=SIZES | {"num_kv_heads", "num_experts", "experts_per_token"},
)
QWEN2 = Architecture(
    model_types=("qwen2",),
    says={"attention_bias": False, "qkv_bias": True, "feed_forward_bias": False},
    usually={
        **ROTARY_DECODER,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "layer_types": _late_layers_slide,
    },
    requires=SIZES | {"num_kv_heads"},
)
QWEN3 = Architecture(
    model_types=("qwen3",),
    says={"feed_forward_bias": False, "qk_norm": True},
    usually=QWEN2.usually,
    requires=SIZES | HEADS,
)
QWEN3_MOE = Architecture(
    model_types=("qwen3_moe", "qwen3moe"),
    says={"feed_forward_bias": False, "qk_norm": True},
    usually={
        **ROTARY_DECODER,
        "use_sliding_window": False,
        "sliding_window": 4096,
    },
    requires=SIZES | {"num_kv_heads", "num_experts", "experts_per_token", "expert_dim", "normalise_scores"},
)
QWEN2_MOE = Architecture(
    model_types=("qwen2_moe",),
    says={"attention_bias": False, "feed_forward_bias": False, "shared_expert_gate": True},
    usually={
        **ROTARY_DECODER,
        "qkv_bias": True,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "layer_types": _late_layers_slide,
        "normalise_scores": False,
    },
    requires=SIZES | {"num_kv_heads", "num_experts", "experts_per_token", "expert_dim", "shared_expert_dim"},
)
GLM4_MOE = Architecture(
    model_types=("glm4_moe",),
    says={
        "output_bias": False,
        "feed_forward_bias": False,
        "router_scoring": "sigmoid",
        "selection_bias": True,
        "dense_layers": lambda facts: list(range(facts.get("dense_layer_count", 1))),
        "shared_expert_dim": lambda facts: facts.count("expert_dim") * facts.count("shared_expert_count", 1),
    },
    usually={
        **ROTARY_DECODER,
        "norm_eps": 1e-5,
        "partial_rotary_factor": 0.5,
        "qk_norm": False,
        "normalise_scores": True,
        "routed_scale": 1.0,
    },
    requires=SIZES | {"num_kv_heads", "num_experts", "experts_per_token", "expert_dim"},
)
PHI3 = Architecture(
    model_types=("phi3",),
    says={"attention_bias": False, "feed_forward_bias": False, "fused_gate_up": True},
    usually={**ROTARY_DECODER, "norm_eps": 1e-5},
    requires=SIZES,
)
GEMMA2 = Architecture(
    model_types=("gemma2",),
    says={
        "feed_forward_bias": False,
        "norm_unit_offset": True,
        "norms_branch_outputs": True,
        "embedding_scale": lambda facts: facts.count("hidden_dim") ** 0.5,
    },
    usually={
        **ROTARY_DECODER,
        "nonlinearity": "gelu_pytorch_tanh",
        "tied": True,
        "attention_softcap": 50.0,
        "logit_softcap": 30.0,
        "sliding_window": 4096,
        "layer_types": _every_other_layer_slides,
    },
    requires=SIZES | HEADS | {"query_pre_attn_scalar"},
)
GEMMA3 = Architecture(
    model_types=("gemma3_text", "gemma3"),
    says={**GEMMA2.says, "qk_norm": True},
    usually={
        **ROTARY_DECODER,
        "nonlinearity": "gelu_pytorch_tanh",
        "tied": True,
        "rope_theta": 1e6,
        "rope_local_theta": 10000.0,
        "sliding_window": 4096,
        "layer_types": _all_but_every_sixth_layer_slide,
    },
    requires=SIZES | HEADS | {"query_pre_attn_scalar"},
)
GPT2 = Architecture(
    model_types=("gpt2",),
    says={
        **LAYERNORM_TRANSFORMER,
        "causal": True,
        "qkv_bias": True,
        "learned_positions": lambda facts: facts.need("max_sequence_length"),
    },
    usually={
        "intermediate_dim": lambda facts: 4 * facts.count("hidden_dim"),
        "nonlinearity": "gelu_new",
        "norm_eps": 1e-5,
        "tied": True,
    },
    requires=frozenset({"max_sequence_length", "vocab_size"}),
)
PHI = Architecture(
    model_types=("phi",),
    says={
        **LAYERNORM_TRANSFORMER,
        "rotary": True,
        "causal": True,
        "qkv_bias": True,
        "lm_head_bias": True,
        "parallel_residual": True,
        "shared_norm": True,
    },
    usually={
        "nonlinearity": "gelu_new",
        "norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "tied": False,
    },
    requires=SIZES,
)
GPT_NEOX = Architecture(
    model_types=("gpt_neox",),
    says={
        **{fact: value for fact, value in LAYERNORM_TRANSFORMER.items() if fact != "output_bias"},
        "rotary": True,
        "causal": True,
    },
    usually={
        "nonlinearity": "gelu",
        "norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "attention_bias": True,
        "parallel_residual": True,
        "tied": False,
    },
    requires=SIZES,
)
COHERE = Architecture(
    model_types=("cohere",),
    says={
        "norm_type": "layernorm",
        "norm_bias": False,
        "feed_forward_bias": False,
        "parallel_residual": True,
        "shared_norm": True,
    },
    usually={**ROTARY_DECODER, "norm_eps": 1e-5, "rope_theta": 500000.0, "tied": True, "logit_scale": 0.0625},
    requires=SIZES,
)
BERT = Architecture(
    model_types=("bert",),
    says={
        **LAYERNORM_TRANSFORMER,
        "causal": False,
        "qkv_bias": True,
        "norm_position": "post",
        "embedding_norm": True,
        "learned_positions": lambda facts: facts.need("max_sequence_length"),
        "pooled": True,
        "num_classes": lambda facts: facts.get("label_count", 2) if _is_classifier(facts) else None,
    },
    usually={"nonlinearity": "gelu", "norm_eps": 1e-12, "token_types": 2},
    requires=SIZES,
    is_encoder=True,
)
VIT = Architecture(
    model_types=("vit",),
    says={
        **LAYERNORM_TRANSFORMER,
        "causal": False,
        "norm_position": "pre",
        "pooled": lambda facts: not _is_classifier(facts),
        "num_classes": lambda facts: facts.get("label_count", 2) if _is_classifier(facts) else None,
    },
    usually={"nonlinearity": "gelu", "norm_eps": 1e-12, "qkv_bias": True, "channels": 3, "pooler_activation": "tanh"},
    requires=frozenset({"intermediate_dim", "image_size", "patch_size"}),
    is_encoder=True,
)

ARCHITECTURES = (
    *(LLAMA, MISTRAL, MIXTRAL, QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE, GLM4_MOE, PHI3, GEMMA2, GEMMA3),
    *(GPT2, PHI, GPT_NEOX, COHERE),
    *(BERT, VIT),
)
