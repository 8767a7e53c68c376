# SPDX-License-Identifier: Apache-2.0
"""The dialects of configurations, a table each: Hugging Face, GPT-style, Meta's params.json; GGUF has its own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loguru import logger

from tttdebug.specs.facts import Dialect, Facts
from tttdebug.specs.gguf_dialect import GGUF


def _first(values: Any) -> Any:
    return values[0] if values else None


def _layer_numbers(values: Any) -> list[int]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, int) for value in values):
        raise TypeError("give a list of layer numbers")
    return list(values)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("give a whole number from 0 on")
    return value


def _side(size: Any) -> Any:
    """One side of a square given as a number or as two equal ones."""
    if isinstance(size, (list, tuple)):
        if len(set(size)) != 1:
            raise ValueError("only squares are supported")
        return size[0]
    return size


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a configuration of several models."""
    if "text_config" not in config or "hidden_size" in config:
        return config
    logger.warning("config describes several models: only its text_config was read")
    part = config["text_config"]
    return part if isinstance(part, Mapping) else dict(part.to_dict())


# What Hugging Face keeps in a configuration beside the mathematics: training, generation, files, tasks.
BOOKKEEPING = (
    *("_name_or_path", "transformers_version", "model_type", "auto_map", "dtype", "torch_dtype", "use_cache"),
    *("*_token_id", "*_token_index", "*dropout*", "*_pdrop", "initializer_*", "output_*", "router_*_loss_coef"),
    *("*attn_implementation*", "*experts_implementation*", "cache_implementation", "pretraining_tp", "label2id"),
    *("problem_type", "return_dict*", "gradient_checkpointing", "chunk_size_feed_forward", "is_encoder_decoder"),
    *("tie_encoder_decoder", "cross_attention_hidden_size", "use_bfloat16", "torchscript", "tf_legacy_loss"),
    *("finetuning_task", "task_specific_params", "tokenizer_class", "prefix", "_commit_hash", "unsloth_*"),
    *("max_length", "min_length", "do_sample", "early_stopping", "num_beam*", "diversity_penalty", "temperature"),
    *("top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "*no_repeat_ngram_size"),
    *("bad_words_ids", "num_return_sequences", "remove_invalid_values", "exponential_decay_length_penalty"),
    *(
        "*suppress_tokens",
        "router_jitter_noise",
        "summary_*",
        "encoder_stride",
        "_num_labels",
        "transformers.js_config",
    ),
    *("pooler_fc_size", "pooler_num_*", "pooler_size_per_head", "pooler_type", "directionality", "norm_topk_eps"),
    *(
        "num_nextn_predict_layers",
        "original_max_position_embeddings",
        "reorder_and_upcast_attn",
        "_sliding_window_pattern",
    ),
)
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (None, False),
    "is_decoder": (None, False),
    "position_embedding_type": (None, "absolute"),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "scale_attn_by_inverse_layer_idx": (None, False),
    "scale_attn_weights": (None, True),
    "use_bidirectional_attention": (None, False),
    "attention_multiplier": (None, 1.0),
    "residual_multiplier": (None, 1.0),
    "embedding_multiplier": (None, 1.0),
    "logits_scaling": (None, 1.0),
    "full_attn_mod": (None, 1),
    "n_group": (None, 1),
    "topk_group": (None, 1),
    "qk_layernorm": (None, False),
    "interpolate_factor": (None, 1, 1.0),
}

HUGGING_FACE = Dialect(
    name="Hugging Face",
    model_type=lambda config: config.get("model_type") or None,
    keys={
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "head_dim": "head_dim",
        "max_position_embeddings": "max_sequence_length",
        "vocab_size": "vocab_size",
        "intermediate_size": "intermediate_dim",
        "hidden_act": "nonlinearity",
        "hidden_activation": "nonlinearity",
        "rms_norm_eps": "norm_eps",
        "layer_norm_eps": "norm_eps",
        "layer_norm_epsilon": "norm_eps",
        "attention_bias": "attention_bias",
        "qkv_bias": "qkv_bias",
        "mlp_bias": "feed_forward_bias",
        "lm_head_bias": "lm_head_bias",
        "tie_word_embeddings": "tied",
        "attn_logit_softcapping": "attention_softcap",
        "final_logit_softcapping": "logit_softcap",
        "logit_scale": "logit_scale",
        "query_pre_attn_scalar": "query_pre_attn_scalar",
        "use_qk_norm": "qk_norm",
        "use_parallel_residual": "parallel_residual",
        "sliding_window": "sliding_window",
        "use_sliding_window": "use_sliding_window",
        "max_window_layers": "max_window_layers",
        "layer_types": "layer_types",
        "sliding_window_pattern": "sliding_window_pattern",
        "rope_theta": "rope_theta",
        "rope_local_base_freq": "rope_local_theta",
        "rope_scaling": "rope_scaling",
        "rope_parameters": "rope_parameters",
        "partial_rotary_factor": "partial_rotary_factor",
        "rotary_pct": "partial_rotary_factor",
        "rotary_emb_base": "rope_theta",
        "num_experts": "num_experts",
        "num_local_experts": "num_experts",
        "num_experts_per_tok": "experts_per_token",
        "moe_intermediate_size": "expert_dim",
        "norm_topk_prob": "normalise_scores",
        "decoder_sparse_step": "sparse_step",
        "mlp_only_layers": ("dense_layers", _layer_numbers),
        "shared_expert_intermediate_size": "shared_expert_dim",
        "n_routed_experts": "num_experts",
        "n_shared_experts": ("shared_expert_count", _whole),
        "first_k_dense_replace": ("dense_layer_count", _whole),
        "routed_scaling_factor": "routed_scale",
        "type_vocab_size": "token_types",
        "image_size": ("image_size", _side),
        "patch_size": ("patch_size", _side),
        "num_channels": "channels",
        "pooler_output_size": "pooler_dim",
        "pooler_act": "pooler_activation",
        "architectures": ("model_class", _first),
        "id2label": ("label_count", len),
    },
    bookkeeping=BOOKKEEPING,
    neutral=NEUTRAL,
    prepare=_text_part,
)

GPT = Dialect(
    name="GPT-style",
    model_type=HUGGING_FACE.model_type,
    keys={
        "n_embd": "hidden_dim",
        "n_head": "num_heads",
        "n_heads": "num_heads",
        "n_layer": "num_layers",
        "n_layers": "num_layers",
        "n_positions": "max_sequence_length",
        "n_ctx": "max_sequence_length",
        "n_inner": "intermediate_dim",
        "vocab_size": "vocab_size",
        "activation_function": "nonlinearity",
        "layer_norm_epsilon": "norm_eps",
        "tie_word_embeddings": "tied",
        "architectures": ("model_class", _first),
        "id2label": ("label_count", len),
    },
    bookkeeping=BOOKKEEPING,
    neutral=NEUTRAL,
)


def _meta_intermediate_dim(facts: Facts) -> int:
    """Meta's rule: two thirds of four times the width, stretched, rounded up to a multiple."""
    width = int(2 * 4 * facts.count("hidden_dim") / 3)
    width = int(facts.number("feed_forward_multiplier", 1.0) * width)
    multiple = facts.count("feed_forward_multiple")
    return multiple * -(-width // multiple)


def _meta_rope_scaling(facts: Facts) -> dict[str, Any] | None:
    if not facts.get("use_scaled_rope"):
        return None
    return {
        "rope_type": "llama3",
        "factor": facts.need("rope_scaling_factor"),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def _experts_beside_the_rest(config: Mapping[str, Any]) -> Mapping[str, Any]:
    moe = config.get("moe")
    return {**{key: config[key] for key in config if key != "moe"}, **moe} if isinstance(moe, Mapping) else config


META = Dialect(
    name="Meta params.json",
    model_type=lambda config: "mixtral" if "num_experts" in config else "llama",
    keys={
        "dim": "hidden_dim",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "n_kv_heads": "num_kv_heads",
        "head_dim": "head_dim",
        "hidden_dim": "intermediate_dim",
        "multiple_of": "feed_forward_multiple",
        "ffn_dim_multiplier": "feed_forward_multiplier",
        "norm_eps": "norm_eps",
        "vocab_size": "vocab_size",
        "max_seq_len": "max_sequence_length",
        "rope_theta": "rope_theta",
        "use_scaled_rope": "use_scaled_rope",
        "rope_scaling_factor": "rope_scaling_factor",
        "sliding_window": "sliding_window",
        "num_experts": "num_experts",
        "num_experts_per_tok": "experts_per_token",
        "tie_word_embeddings": "tied",
    },
    bookkeeping=("max_batch_size", "model_type"),
    neutral={"lora_args": (None,), "quantization_args": (None,), "vision_chunk_size": (None, -1)},
    prepare=_experts_beside_the_rest,
    usually={
        "intermediate_dim": _meta_intermediate_dim,
        "rope_scaling": _meta_rope_scaling,
        "norm_eps": 1e-5,
        "max_sequence_length": 2048,
        "tied": False,
    },
)

DIALECTS = (HUGGING_FACE, GPT, META, GGUF)
