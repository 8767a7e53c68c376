# SPDX-License-Identifier: Apache-2.0
"""The dialect of GGUF metadata."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from tttdebug.errors import SpecError
from tttdebug.specs.facts import Dialect, Facts

LLAMA_3_THETA = 500000.0


def _gguf_prepare(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata with `llama.` and the like at the front of a key written `{arch}.`, as GGUF's specification does."""
    prefix = f"{config.get('general.architecture')}."
    return {f"{{arch}}.{key[len(prefix) :]}" if key.startswith(prefix) else key: value for key, value in config.items()}


def _gguf_model_type(config: Mapping[str, Any]) -> str | None:
    name = config.get("general.architecture")
    return "mixtral" if name == "llama" and config.get("{arch}.expert_count") else name


def _gguf_rope_scaling(facts: Facts) -> dict[str, Any] | None:
    if facts.get("rope_scaling_type") is None and facts.get("rope_theta") == LLAMA_3_THETA:
        raise SpecError(
            "GGUF metadata does not say how a Llama 3 scales its rotary frequencies: add 'rope_scaling', as in the "
            "Hugging Face config, or {'rope_type': 'default'} where the file has no tensor rope_freqs.weight"
        )
    if facts.get("rope_scaling_type", "none") == "none":
        return None
    scaling = {
        "rope_type": facts.get("rope_scaling_type"),
        "factor": facts.get("rope_scaling_factor"),
        "original_max_position_embeddings": facts.get("rope_original_length"),
        "attention_factor": facts.get("rope_attention_factor"),
        "beta_fast": facts.get("rope_beta_fast"),
        "beta_slow": facts.get("rope_beta_slow"),
    }
    return {key: value for key, value in scaling.items() if value is not None}


def _decimal(value: float) -> float:
    """The short decimal that a 32-bit float was stored for: 1e-5, not 9.999999747378752e-06."""
    short = float(f"{value:.7g}")
    return short if struct.pack("f", short) == struct.pack("f", value) else value


GGUF = Dialect(
    name="GGUF",
    model_type=_gguf_model_type,
    keys={
        "{arch}.embedding_length": "hidden_dim",
        "{arch}.block_count": "num_layers",
        "{arch}.attention.head_count": "num_heads",
        "{arch}.attention.head_count_kv": "num_kv_heads",
        "{arch}.attention.key_length": "head_dim",
        "{arch}.attention.value_length": "head_dim",
        "{arch}.attention.layer_norm_rms_epsilon": ("norm_eps", _decimal),
        "{arch}.attention.layer_norm_epsilon": ("norm_eps", _decimal),
        "{arch}.attention.sliding_window": "sliding_window",
        "{arch}.attention.causal": "causal",
        "{arch}.attn_logit_softcapping": ("attention_softcap", _decimal),
        "{arch}.final_logit_softcapping": ("logit_softcap", _decimal),
        "{arch}.context_length": "max_sequence_length",
        "{arch}.vocab_size": "vocab_size",
        "{arch}.feed_forward_length": "intermediate_dim",
        "{arch}.rope.freq_base": ("rope_theta", _decimal),
        "{arch}.rope.dimension_count": "rotary_dim",
        "{arch}.rope.scaling.type": "rope_scaling_type",
        "{arch}.rope.scaling.factor": ("rope_scaling_factor", _decimal),
        "{arch}.rope.scaling.original_context_length": "rope_original_length",
        "{arch}.rope.scaling.yarn_attn_factor": ("rope_attention_factor", _decimal),
        "{arch}.rope.scaling.yarn_beta_fast": ("rope_beta_fast", _decimal),
        "{arch}.rope.scaling.yarn_beta_slow": ("rope_beta_slow", _decimal),
        "{arch}.expert_count": "num_experts",
        "{arch}.expert_used_count": "experts_per_token",
        "{arch}.expert_feed_forward_length": "expert_dim",
        "{arch}.expert_weights_norm": "normalise_scores",
        "{arch}.expert_weights_scale": ("routed_scale", _decimal),
        "tokenizer.ggml.tokens": ("token_count", len),
        "tokenizer.ggml.token_type_count": "token_types",
        # What metadata does not say, under Hugging Face's names, to be added by who knows the file's tensors.
        "tie_word_embeddings": "tied",
        "query_pre_attn_scalar": "query_pre_attn_scalar",
        "rope_scaling": "rope_scaling",
    },
    bookkeeping=("GGUF.*", "general.*", "tokenizer.*", "quantize.*", "split.*", "{arch}.tensor_data_layout"),
    neutral={"{arch}.rope.scaling.finetuned": (None, True, False), "{arch}.pooling_type": (None, 0, 1, 2)},
    prepare=_gguf_prepare,
    # The converter to GGUF adds Gemma's one to the norm weights, and splits fused matrices but those of phi3.
    says={"norm_unit_offset": False},
    usually={"vocab_size": lambda facts: facts.get("token_count"), "rope_scaling": _gguf_rope_scaling},
    requires=frozenset({"tied"}),
)
