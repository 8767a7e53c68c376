# SPDX-License-Identifier: Apache-2.0
"""Small random models of every family, drawn by hypothesis and built from Hugging Face's own classes."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from hypothesis import strategies as st
from torch import nn

CONTEXT = 128

ROPES = (
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 8.0},
)


@st.composite
def decoders(draw: st.DrawFn, family: str, head_dims: tuple[int, ...] = (32, 64, 24, 80)) -> Any:
    """A config of two layers with odd head counts, grouped heads, heads and a vocabulary that fill no tile."""
    head_dim = draw(st.sampled_from(head_dims))
    kv_heads = draw(st.integers(1, 2))
    heads = kv_heads * draw(st.integers(1, 3))
    shape: dict[str, Any] = {
        "vocab_size": draw(st.sampled_from([61, 101])),
        "hidden_size": heads * draw(st.sampled_from([16, 32])),
        "intermediate_size": draw(st.sampled_from([48, 72])),
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": draw(st.booleans()),
    }
    window = draw(st.sampled_from([None, 3, 7, 40]))
    rope = {"rope_theta": draw(st.sampled_from([100.0, 1e4]))}
    rope_parameters = {**rope, **draw(st.sampled_from(ROPES))}
    any_width = draw(st.booleans())
    if family == "llama":
        return transformers.LlamaConfig(
            **shape,
            rope_parameters=rope_parameters,
            attention_bias=any_width,
            mlp_bias=draw(st.booleans()),
            hidden_act=draw(st.sampled_from(["silu", "silu", "gelu", "gelu_pytorch_tanh", "relu"])),
        )
    if family == "mistral":
        return transformers.MistralConfig(**shape, rope_parameters=rope_parameters, sliding_window=window)
    if family in ("qwen2", "qwen3"):
        if family == "qwen2":
            shape["hidden_size"] = heads * shape.pop("head_dim")
        kind = {"qwen2": transformers.Qwen2Config, "qwen3": transformers.Qwen3Config}[family]
        slides = {"use_sliding_window": window is not None, "sliding_window": window or 4, "max_window_layers": 1}
        biased = {"attention_bias": any_width} if family == "qwen3" else {}
        return kind(**shape, **slides, **biased, rope_parameters=rope_parameters)
    if family == "phi3":
        shape["hidden_size"] = heads * shape.pop("head_dim")
        partial = draw(st.sampled_from([1.0, 0.75, 0.5]))
        default = {"rope_type": "default", **rope, "partial_rotary_factor": partial}
        return transformers.Phi3Config(**shape, rope_parameters=default, sliding_window=window)
    if family in ("gemma2", "gemma3"):
        gemma = {"sliding_window": window or 5, "query_pre_attn_scalar": draw(st.sampled_from([16, 50]))}
        gemma |= {"layer_types": ["sliding_attention", "full_attention"]}
        if family == "gemma2":
            caps = {"attn_logit_softcapping": draw(st.sampled_from([None, 2.0])), "final_logit_softcapping": 5.0}
            return transformers.Gemma2Config(**shape, **gemma, **caps)
        both = {
            "full_attention": {"rope_type": "linear", "factor": 8.0, **rope},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        }
        cap = draw(st.sampled_from([None, 5.0]))
        return transformers.Gemma3TextConfig(**shape, **gemma, rope_parameters=both, final_logit_softcapping=cap)
    if family == "mixtral":
        experts = {"num_local_experts": 5, "num_experts_per_tok": draw(st.integers(1, 3))}
        return transformers.MixtralConfig(**shape, **experts, sliding_window=window)
    if family == "qwen3_moe":
        experts = {"num_experts": 5, "num_experts_per_tok": draw(st.integers(1, 3)), "moe_intermediate_size": 40}
        return transformers.Qwen3MoeConfig(
            **shape, **experts, norm_topk_prob=any_width, mlp_only_layers=draw(st.sampled_from([[], [1]]))
        )
    if family in ("qwen2_moe", "glm4_moe"):
        experts = {"num_experts_per_tok": draw(st.integers(1, 3)), "moe_intermediate_size": 40}
        experts["norm_topk_prob"] = any_width
        if family == "qwen2_moe":
            shape["hidden_size"] = heads * shape.pop("head_dim")
            experts |= {"num_experts": 5, "shared_expert_intermediate_size": draw(st.sampled_from([24, 56]))}
            return transformers.Qwen2MoeConfig(
                **shape, **experts, qkv_bias=draw(st.booleans()), mlp_only_layers=draw(st.sampled_from([[], [1]]))
            )
        partial = {"rope_type": "default", **rope, "partial_rotary_factor": draw(st.sampled_from([1.0, 0.5]))}
        return transformers.Glm4MoeConfig(
            **shape,
            **experts,
            n_routed_experts=5,
            n_shared_experts=draw(st.integers(1, 2)),
            first_k_dense_replace=draw(st.integers(0, 1)),
            routed_scaling_factor=draw(st.sampled_from([1.0, 2.5])),
            use_qk_norm=draw(st.booleans()),
            attention_bias=draw(st.booleans()),
            rope_parameters=partial,
        )
    if family == "cohere":
        shape["hidden_size"] = heads * shape.pop("head_dim")
        return transformers.CohereConfig(
            **shape,
            rope_parameters=rope_parameters,
            attention_bias=any_width,
            logit_scale=draw(st.sampled_from([0.0625, 1.0])),
        )
    if family in ("phi", "gpt_neox"):
        shape["hidden_size"] = heads * shape.pop("head_dim")
        partial = {"rope_type": "default", **rope, "partial_rotary_factor": draw(st.sampled_from([1.0, 0.5, 0.25]))}
        if family == "phi":
            return transformers.PhiConfig(**{**shape, "tie_word_embeddings": False}, rope_parameters=partial)
        shape.pop("num_key_value_heads")
        return transformers.GPTNeoXConfig(
            **shape,
            rope_parameters=partial,
            attention_bias=any_width,
            use_parallel_residual=draw(st.sampled_from([True, True, False])),
            hidden_act=draw(st.sampled_from(["gelu", "gelu_new", "relu", "relu2"])),
        )
    assert family == "gpt2"
    return transformers.GPT2Config(
        vocab_size=shape["vocab_size"],
        n_embd=heads * head_dim,
        n_head=heads,
        n_layer=2,
        n_positions=CONTEXT,
        activation_function=draw(st.sampled_from(["gelu_new", "gelu", "relu", "relu2"])),
        bos_token_id=1,
        eos_token_id=2,
    )


@st.composite
def encoders(draw: st.DrawFn, family: str) -> transformers.PreTrainedConfig:
    """A config of two layers for BERT or ViT."""
    heads = draw(st.sampled_from([1, 3]))
    shape = {
        "hidden_size": heads * draw(st.sampled_from([32, 64, 40])),
        "intermediate_size": draw(st.sampled_from([72, 96])),
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "hidden_act": draw(st.sampled_from(["gelu", "gelu_new", "relu"])),
        "num_labels": 37,  # so many that their norm is not by chance all cancellation, of which fp32 keeps few digits
    }
    if family == "bert":
        return transformers.BertConfig(**shape, vocab_size=61, max_position_embeddings=CONTEXT)
    return transformers.ViTConfig(
        **shape, image_size=24, patch_size=draw(st.sampled_from([4, 8])), qkv_bias=draw(st.booleans())
    )


ARCHITECTURES = {
    "llama": ("LlamaForCausalLM",),
    "mistral": ("MistralForCausalLM",),
    "qwen2": ("Qwen2ForCausalLM",),
    "qwen3": ("Qwen3ForCausalLM",),
    "phi3": ("Phi3ForCausalLM",),
    "gemma2": ("Gemma2ForCausalLM",),
    "gemma3": ("Gemma3ForCausalLM",),
    "mixtral": ("MixtralForCausalLM",),
    "qwen3_moe": ("Qwen3MoeForCausalLM",),
    "qwen2_moe": ("Qwen2MoeForCausalLM",),
    "glm4_moe": ("Glm4MoeForCausalLM",),
    "cohere": ("CohereForCausalLM",),
    "phi": ("PhiForCausalLM",),
    "gpt_neox": ("GPTNeoXForCausalLM",),
    "gpt2": ("GPT2LMHeadModel",),
    "bert": ("BertModel", "BertForSequenceClassification"),
    "vit": ("ViTModel", "ViTForImageClassification"),
}
DECODERS = tuple(family for family in ARCHITECTURES if family not in ("bert", "vit"))


def random_model(config: transformers.PreTrainedConfig, architecture: str, seed: int) -> nn.Module:
    """The model with every parameter random, biases and gains too, so that none can be forgotten unnoticed."""
    torch.manual_seed(seed)
    config.architectures = [architecture]
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape)
            # matrices keep the size of what goes through them, so that rounding is not what sharp attention makes of it
            parameter.copy_(parameter + 0.2 * noise if parameter.ndim == 1 else noise * parameter.shape[-1] ** -0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):  # learned, though it is no parameter
                buffer.copy_(0.2 * torch.randn(buffer.shape))
    return model
