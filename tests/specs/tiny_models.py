# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of every family, from Hugging Face's own classes, for the tests of specs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from tttdebug.specs import CausalLMSpec, EncoderModelSpec, ModuleSpecFactory

DECODER = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA = {**DECODER, "head_dim": 12, "sliding_window": 5, "query_pre_attn_scalar": 20, "rms_norm_eps": 1e-4}
ENCODER = {"hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 6}


IS_TRANSFORMERS_5 = int(transformers.__version__.split(".")[0]) >= 5


def _rope(theta: float, partial: float = 1.0, **scaling: Any) -> dict[str, Any]:
    """A decoder with these rotary parameters, as this version of transformers wants them."""
    if IS_TRANSFORMERS_5:
        scaling = {"rope_type": "default", **scaling}
        return {**DECODER, "rope_parameters": {"rope_theta": theta, "partial_rotary_factor": partial, **scaling}}
    return {**DECODER, "rope_theta": theta, "partial_rotary_factor": partial, "rope_scaling": scaling or None}


@dataclass(frozen=True)
class Family:
    """A model class with its configuration class and what to build it from."""

    config_class: str
    model_class: str
    arguments: dict[str, Any]

    def config(self, **changes: Any) -> Any:
        """The configuration, with some arguments changed."""
        config = getattr(transformers, self.config_class)(**{**self.arguments, **changes})
        config._attn_implementation = "eager"
        config._experts_implementation = "eager"
        return config

    @property
    def is_encoder(self) -> bool:
        """Whether this is an encoder."""
        return self.config_class in ("BertConfig", "ViTConfig")


FAMILIES = {
    "llama": Family("LlamaConfig", "LlamaForCausalLM", {**DECODER, "attention_bias": True, "mlp_bias": True}),
    "llama_multi_query": Family(
        "LlamaConfig", "LlamaForCausalLM", {**DECODER, "num_key_value_heads": 1, "head_dim": 10}
    ),
    "llama_linear": Family("LlamaConfig", "LlamaForCausalLM", _rope(500.0, rope_type="linear", factor=4.0)),
    "llama_llama3": Family(
        "LlamaConfig",
        "LlamaForCausalLM",
        _rope(
            500.0,
            rope_type="llama3",
            factor=4.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=16,
        ),
    ),
    "llama_yarn": Family(
        "LlamaConfig",
        "LlamaForCausalLM",
        {
            **_rope(
                500.0,
                rope_type="yarn",
                factor=4.0,
                original_max_position_embeddings=256,
                beta_fast=8.0,
                mscale=0.7,
                mscale_all_dim=0.3,
            ),
            "head_dim": 32,
        },
    ),
    "mistral": Family("MistralConfig", "MistralForCausalLM", {**DECODER, "sliding_window": 7, "head_dim": 16}),
    "qwen2": Family(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {**DECODER, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2},
    ),
    "qwen3": Family("Qwen3Config", "Qwen3ForCausalLM", {**DECODER, "head_dim": 16, "attention_bias": True}),
    "phi3": Family(
        "Phi3Config",
        "Phi3ForCausalLM",
        _rope(1e4, partial=0.5),
    ),
    "gemma2": Family("Gemma2Config", "Gemma2ForCausalLM", {**GEMMA, "attn_logit_softcapping": 2.0}),
    "gemma3": Family("Gemma3TextConfig", "Gemma3ForCausalLM", {**GEMMA, "num_hidden_layers": 7}),
    "gpt2": Family("GPT2Config", "GPT2LMHeadModel", {"vocab_size": 61, "n_embd": 48, "n_head": 6, "n_layer": 3}),
    "mixtral": Family("MixtralConfig", "MixtralForCausalLM", {**DECODER, "num_local_experts": 5, "sliding_window": 9}),
    "qwen3_moe": Family(
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        {
            **DECODER,
            "num_experts": 5,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 20,
            "mlp_only_layers": [1],
            "norm_topk_prob": True,
        },
    ),
    "qwen2_moe": Family(
        "Qwen2MoeConfig",
        "Qwen2MoeForCausalLM",
        {
            **DECODER,
            "num_experts": 5,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 20,
            "shared_expert_intermediate_size": 28,
            "mlp_only_layers": [1],
        },
    ),
    "glm4_moe": Family(
        "Glm4MoeConfig",
        "Glm4MoeForCausalLM",
        {
            **DECODER,
            "n_routed_experts": 5,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 20,
            "n_shared_experts": 2,
            "routed_scaling_factor": 2.5,
            "use_qk_norm": True,
            "attention_bias": True,
        },
    ),
    "phi": Family("PhiConfig", "PhiForCausalLM", DECODER),
    "cohere": Family("CohereConfig", "CohereForCausalLM", DECODER),
    "gpt_neox": Family(
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        {key: value for key, value in DECODER.items() if key != "num_key_value_heads"},
    ),
    "bert": Family("BertConfig", "BertModel", {**ENCODER, "vocab_size": 61}),
    "bert_classifier": Family(
        "BertConfig", "BertForSequenceClassification", {**ENCODER, "vocab_size": 61, "num_labels": 3}
    ),
    "vit": Family("ViTConfig", "ViTModel", {**ENCODER, "image_size": 12, "patch_size": 4, "qkv_bias": False}),
    "vit_classifier": Family(
        "ViTConfig", "ViTForImageClassification", {**ENCODER, "image_size": 12, "patch_size": 4, "num_labels": 3}
    ),
}


def random_model(family: Family) -> nn.Module:
    """The family's model in float64, every parameter random so that none of them can be forgotten unnoticed."""
    model = getattr(transformers, family.model_class)(family.config()).double().eval()
    model.config.architectures = [family.model_class]
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(parameter + 0.2 * noise if parameter.dim() == 1 else 0.15 * noise)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):  # learned, though it is no parameter
                buffer.copy_(0.2 * torch.randn_like(buffer))
    return model


def random_inputs(family: Family, batch: int = 2, length: int = 19) -> Tensor:
    """Token ids, or images for a ViT."""
    if family.config_class == "ViTConfig":
        return torch.randn(batch, 3, 12, 12, dtype=torch.float64)
    return torch.randint(3, 61, (batch, length))


def spec_of(model: nn.Module) -> CausalLMSpec | EncoderModelSpec:
    """The spec of a model, read from its configuration."""
    if model.config.model_type in ("bert", "vit"):
        return ModuleSpecFactory.encoder_from_config(model.config)
    return ModuleSpecFactory.causal_lm_from_config(model.config)
