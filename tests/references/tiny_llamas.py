# SPDX-License-Identifier: Apache-2.0
"""Tiny random Llamas, and the GGUF files that llama.cpp would have made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(2)

TINY = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
}

THREE_HEADS = {
    "hidden_size": 96,
    "head_dim": 32,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "intermediate_size": 160,
}
"""Fields of a Llama that fills whole tiles, and whose sizes are all different: none is taken for another."""

PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def tiny_llama(seed: int = 0, **fields: Any) -> LlamaForCausalLM:
    """A small Llama whose every parameter, the norms and biases too, is random."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**TINY, **fields}, attn_implementation="sdpa"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1 + (1.0 if parameter.ndim == 1 else 0.0))
    return model.eval()


def logits(model: torch.nn.Module, tokens: int = 9) -> torch.Tensor:
    """Logits [1, S, V] of a fixed sequence of different tokens."""
    ids = (torch.arange(tokens) * 7 % 96)[None]
    with torch.inference_mode():
        return model(ids, use_cache=False).logits


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    *,
    quantisation: str = "F32",
    architecture: str = "llama",
    change: Callable[[Any], None] = lambda writer: None,
    leave_out: tuple[str, ...] = (),
) -> Path:
    """Write a model as llama.cpp's converter does; `change` may add to the writer what else a file shall say."""
    import gguf

    config, writer = model.config, gguf.GGUFWriter(path, architecture)
    kind = gguf.GGMLQuantizationType[quantisation]
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    writer.add_rope_freq_base(theta)
    change(writer)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        home, kind_of_values = name.rsplit(".", 1)
        part = next(theirs for ours, theirs in PARTS.items() if home.endswith(ours))
        values = tensor.numpy()
        if part in heads:
            values = neighbours_turn_together(values, heads[part])
        if home.startswith("model.layers."):
            part = f"blk.{home.split('.')[2]}.{part}"
        if f"{part}.{kind_of_values}" in leave_out:
            continue
        stored = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(f"{part}.{kind_of_values}", gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def neighbours_turn_together(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k of each head in llama.cpp's rope order: i, i + E/2, i + 1, i + 1 + E/2, …"""
    half = rows.shape[0] // heads // 2
    order = [head * 2 * half + channel for head in range(heads) for i in range(half) for channel in (i, i + half)]
    return np.ascontiguousarray(rows[order])
