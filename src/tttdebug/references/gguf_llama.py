# SPDX-License-Identifier: Apache-2.0
"""A GGUF file of the `llama` architecture as a Hugging Face Llama: its config and its weights.

llama.cpp files Llama, SmolLM2, TinyLlama and Mistral under this one architecture.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tttdebug.errors import WeightsError
from tttdebug.references.gguf_file import GGUFFile
from tttdebug.references.reference import Progress, say_nothing

if TYPE_CHECKING:
    from torch import Tensor

OF_THE_MODEL = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
OF_A_LAYER = {
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
ROPE_FACTORS = "rope_freqs.weight"

UNDERSTOOD = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "vocab_size",
}
"""The keys below `llama.` that are read, or say nothing about the mathematics; any other is refused."""


def llama_config(file: GGUFFile) -> dict[str, Any]:
    """The config as `config.json` has it, in the spelling that every version of transformers reads.

    Raises WeightsError where the file is of another architecture, or says something a Llama cannot express.
    """
    architecture = file.value("general.architecture")
    if architecture != "llama":
        raise WeightsError(
            f"{file.path} is of the architecture {architecture!r}, and only 'llama' is read from GGUF: "
            "give the model as a Hugging Face folder"
        )
    _refuse_what_is_not_understood(file)

    width, heads = _count(file, "embedding_length"), _count(file, "attention.head_count")
    head_dim = _count(file, "attention.key_length", width // heads)
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if file.value(key, head_dim) != head_dim:
            raise WeightsError(
                f"{file.path} has {key} {file.value(key)}, but heads of {head_dim}: a Llama has them equal"
            )
    rope_theta = _decimal(file, "llama.rope.freq_base", 10000.0)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": file.shape("token_embd.weight")[0],
        "hidden_size": width,
        "intermediate_size": _count(file, "feed_forward_length"),
        "num_hidden_layers": _count(file, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _count(file, "attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": _count(file, "context_length"),
        "rms_norm_eps": _decimal(file, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": rope_theta,
        "rope_scaling": _rope_scaling(file, rope_theta, head_dim),
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": file.value("tokenizer.ggml.bos_token_id", None),
        "eos_token_id": file.value("tokenizer.ggml.eos_token_id", None),
        "pad_token_id": file.value("tokenizer.ggml.padding_token_id", None),
    }


def llama_state_dict(
    file: GGUFFile, config: dict[str, Any], layers: int | None = None, progress: Progress = say_nothing
) -> dict[str, Tensor]:
    """The weights in fp32 under Hugging Face's names; of the first `layers` decoder layers only, where that is given.

    Raises WeightsError where a tensor is none of a Llama's.
    """
    import torch

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for done, stored in enumerate(file.tensors):
        progress("dequantising the weights", done / len(file.tensors))
        layer, part, kind = _place(file, stored)
        if stored == ROPE_FACTORS or (layer is not None and layers is not None and layer >= layers):
            continue
        values = file.tensor(stored)
        if part in heads:
            if values.shape[0] != heads[part] * config["head_dim"]:
                raise WeightsError(
                    f"{file.path} has {values.shape[0]} rows in {stored}, not {heads[part]} heads "
                    f"of {config['head_dim']}: it is damaged, convert the model to GGUF anew"
                )
            values = _halves_turn_together(values, heads[part])
        home = OF_THE_MODEL[part] if layer is None else f"model.layers.{layer}.{OF_A_LAYER[part]}"
        weights[f"{home}.{kind}"] = torch.from_numpy(values)
    return weights


def _place(file: GGUFFile, stored: str) -> tuple[int | None, str, str]:
    """Layer (None outside the layers), part and kind, weight or bias, of a tensor by its name in the file."""
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", stored)
    if match is None or (match[2] not in (OF_A_LAYER if match[1] else OF_THE_MODEL) and stored != ROPE_FACTORS):
        raise WeightsError(f"{file.path} has a tensor {stored}, which is none of a Llama's: give a Hugging Face folder")
    return int(match[1]) if match[1] else None, match[2], match[3]


def _refuse_what_is_not_understood(file: GGUFFile) -> None:
    for key, value in file.metadata.items():
        if not key.startswith("llama."):
            continue
        if key.removeprefix("llama.") not in UNDERSTOOD and value:
            raise WeightsError(
                f"{file.path} sets {key} to {value}, which a plain Llama does not have: give a Hugging Face folder"
            )


def _count(file: GGUFFile, key: str, default: int | None = None) -> int:
    """A number of things. Raises WeightsError where it is none, or a list with one for each layer."""
    number = file.value(f"llama.{key}") if default is None else file.value(f"llama.{key}", default)
    if not isinstance(number, int) or number < 1:
        raise WeightsError(
            f"{file.path} sets llama.{key} to {number}, where a plain Llama has one number above 0: "
            "give a Hugging Face folder"
        )
    return number


def _halves_turn_together(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k in Hugging Face's rope order, where channels i and i + head_dim/2 of a head turn together; in
    llama.cpp's, channels 2i and 2i + 1 do."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _rope_scaling(file: GGUFFile, theta: float, head_dim: int) -> dict[str, Any] | None:
    """Hugging Face's `rope_scaling`, None where positions are not scaled. Raises WeightsError for an unknown kind."""
    old = "llama.rope.scale_linear"  # how files of 2023 say it
    kind = file.value("llama.rope.scaling.type", "linear" if old in file.metadata else "none")
    trained = file.value("llama.rope.scaling.original_context_length", None)
    if ROPE_FACTORS in file.tensors:
        if kind != "none":
            raise WeightsError(
                f"{file.path} scales rope twice, by {kind!r} and by {ROPE_FACTORS}: give a Hugging Face folder"
            )
        return _llama3_scaling(file, theta, head_dim, trained or 8192)
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise WeightsError(
            f"{file.path} scales rope by {kind!r}; known are linear, yarn and llama3: give a Hugging Face folder"
        )
    factor = _decimal(file, old if old in file.metadata else "llama.rope.scaling.factor")
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    original = trained or file.value("llama.context_length")
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}


def _llama3_scaling(file: GGUFFile, theta: float, head_dim: int, trained: int) -> dict[str, Any] | None:
    """The Llama 3 scaling whose divisors of the rope frequencies the file holds; llama.cpp keeps only the divisors.

    A wavelength below trained/high is kept, one above trained/low divided by `factor`, and between the two the inverse
    divisor is interpolated; low = 1 and high = 4 in every Llama released.
    """
    stored = file.tensor(ROPE_FACTORS)
    factor, low, high = float(str(stored.max())), 1.0, 4.0
    if factor == 1.0 and stored.min() == 1.0:
        return None
    frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    turns = trained * frequency / (2 * math.pi)  # within the context the model was trained on
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    divisors = 1.0 / ((1.0 - smooth) / factor + smooth)
    if stored.shape != divisors.shape or not np.allclose(stored, divisors, rtol=1e-4):
        raise WeightsError(
            f"{file.path} scales rope frequencies ({ROPE_FACTORS}) as no known rule does: give a Hugging Face folder"
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": trained,
    }


def _decimal(file: GGUFFile, key: str, default: float | None = None) -> float:
    """The shortest decimal of an fp32 value: 1e-05 for 9.999999747378752e-06, the same number in fp32."""
    number = file.value(key) if default is None else file.value(key, default)
    if not isinstance(number, float) or not math.isfinite(number) or number <= 0:
        raise WeightsError(f"{file.path} sets {key} to {number}: it is damaged, convert the model to GGUF anew")
    return float(str(np.float32(number)))
