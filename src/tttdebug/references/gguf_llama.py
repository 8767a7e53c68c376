# SPDX-License-Identifier: Apache-2.0
"""A GGUF file of the `llama` architecture as a Hugging Face Llama: its config and its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tttdebug.errors import WeightsError
from tttdebug.references.gguf_file import GGUFFile
from tttdebug.references.reference import Progress, say_nothing

if TYPE_CHECKING:
    from torch import Tensor

WHOLE_MODEL = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
IN_A_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def llama_config(file: GGUFFile) -> dict[str, Any]:
    """The keywords of a `LlamaConfig`."""
    metadata = file.metadata
    if metadata["general.architecture"] != "llama":
        raise WeightsError(
            f"{file.path} holds a {metadata['general.architecture']} model; only llama is read from GGUF"
        )

    def value(key: str, default: Any = None) -> Any:
        return metadata.get(f"llama.{key}", default)

    heads, width = value("attention.head_count"), value("embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "hidden_size": width,
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("attention.head_count_kv", heads),
        "head_dim": value("attention.key_length", width // heads),
        "max_position_embeddings": value("context_length"),
        "rms_norm_eps": _shortest(value("attention.layer_norm_rms_epsilon")),
        "rope_theta": _shortest(value("rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
    }


def llama_state_dict(file: GGUFFile, config: dict[str, Any], progress: Progress = say_nothing) -> dict[str, Tensor]:
    """The weights in fp32 under Hugging Face's names."""
    import torch

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for done, name in enumerate(file.tensors):
        progress("dequantising the weights", done / len(file.tensors))
        *layer, part, kind = name.split(".")
        weight = file.tensor(name)
        if part in heads:
            weight = _halves_of_a_head(weight, heads[part])
        home = f"model.layers.{layer[1]}.{IN_A_LAYER[part]}" if layer else WHOLE_MODEL[part]
        weights[f"{home}.{kind}"] = torch.from_numpy(weight)
    return weights


def _halves_of_a_head(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k from llama.cpp's rope order (neighbours turn together) to Hugging Face's (halves turn together)."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _shortest(value: float) -> float:
    """The shortest decimal of an fp32 value: 1e-05 instead of 9.999999747378752e-06; the same number in fp32."""
    return float(str(np.float32(value)))
