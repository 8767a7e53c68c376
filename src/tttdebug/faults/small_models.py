# SPDX-License-Identifier: Apache-2.0
"""Small random models of many families, built from Hugging Face's own classes: each computes what the others do not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

CONTEXT = 256
VOCABULARY = 256


def _shape(draw: random.Random, layers: int) -> dict[str, Any]:
    head_dim = draw.choice([32, 64])
    kv_heads = draw.choice([1, 2, 4])
    heads = kv_heads * draw.choice([1, 2, 3])
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": heads * head_dim,
        "intermediate_size": draw.choice([192, 256, 384]),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": draw.choice([False, True]),
    }


_ROPES: tuple[dict[str, Any], ...] = (
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


def _rope(draw: random.Random, **more: Any) -> dict[str, Any]:
    return {"rope_theta": draw.choice([1e3, 1e4]), **draw.choice(_ROPES), **more}


def _llama(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    biases = {"attention_bias": draw.choice([False, True]), "mlp_bias": draw.choice([False, True])}
    activation = draw.choice(["silu", "silu", "gelu", "gelu_pytorch_tanh", "relu"])
    return "Llama", {**shape, **biases, "hidden_act": activation, "rope_parameters": _rope(draw)}


def _mistral(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "Mistral", {**shape, "sliding_window": draw.choice([None, 7, 40]), "rope_parameters": _rope(draw)}


def _qwen2(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "Qwen2", {**shape, "rope_parameters": _rope(draw)}


def _qwen3(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "Qwen3", {**shape, "head_dim": draw.choice([32, 64]), "rope_parameters": _rope(draw)}


def _phi3(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    partial = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": draw.choice([1.0, 0.75, 0.5])}
    return "Phi3", {**shape, "rope_parameters": partial}


def _gemma2(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    caps = {"attn_logit_softcapping": draw.choice([None, 2.0]), "final_logit_softcapping": 5.0}
    kinds = ["sliding_attention", "full_attention"] * shape["num_hidden_layers"]
    windows = {"sliding_window": draw.choice([7, 20]), "layer_types": kinds[: shape["num_hidden_layers"]]}
    head = {"head_dim": draw.choice([32, 64]), "query_pre_attn_scalar": draw.choice([16, 50])}
    return "Gemma2", {**shape, **caps, **windows, **head}


def _mixtral(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "Mixtral", {**shape, "num_local_experts": 4, "num_experts_per_tok": draw.choice([1, 2])}


def _cohere(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "Cohere", {**shape, "logit_scale": draw.choice([0.0625, 0.5]), "rope_parameters": _rope(draw)}


def _phi(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    partial = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": draw.choice([1.0, 0.5])}
    return "Phi", {**shape, "tie_word_embeddings": False, "rope_parameters": partial}


def _gpt2(draw: random.Random, shape: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "GPT2", {
        "vocab_size": VOCABULARY,
        "n_embd": shape["hidden_size"],
        "n_head": shape["num_attention_heads"],
        "n_layer": shape["num_hidden_layers"],
        "n_positions": CONTEXT,
        "activation_function": draw.choice(["gelu_new", "gelu", "relu"]),
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


_Drawn = Callable[[random.Random, dict[str, Any]], tuple[str, dict[str, Any]]]
_FAMILIES: dict[str, _Drawn] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "phi3": _phi3,
    "gemma2": _gemma2,
    "mixtral": _mixtral,
    "cohere": _cohere,
    "phi": _phi,
    "gpt2": _gpt2,
}
SMALL_FAMILIES = tuple(_FAMILIES)


def small_model(family: str, seed: int, layers: int = 2) -> nn.Module:
    """A causal language model of that family with every parameter random, gains and biases too.

    Raises KeyError for a family that is not among `SMALL_FAMILIES`.
    """
    import torch
    import transformers

    draw = random.Random(seed)
    name, settings = _FAMILIES[family](draw, _shape(draw, layers))
    config = getattr(transformers, f"{name}Config")(**settings)
    architecture = f"{name}LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
    config.architectures = [architecture]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # matrices keep the size of what goes through them, so that rounding is not what sharp attention makes of it
            parameter.copy_(parameter + 0.2 * noise if parameter.ndim == 1 else noise * parameter.shape[-1] ** -0.5)
    return model
