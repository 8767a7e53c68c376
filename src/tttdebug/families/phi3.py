# SPDX-License-Identifier: Apache-2.0
"""Phi-3, Phi-3.5 and Phi-4, whose checkpoints keep query, key and value, and gate and up, as one matrix each."""

from tttdebug.families.family import Family
from tttdebug.families.sources import Rows, Source
from tttdebug.specs import CausalLMSpec, FeedForwardSpec, ModuleSpecFactory
from tttdebug.tracking.pairing import CachePair, Pair

QKV = "model.layers.{i}.self_attn.qkv_proj.weight"
GATE_UP = "model.layers.{i}.mlp.gate_up_proj.weight"


def _weights(spec: CausalLMSpec) -> dict[str, "str | Source"]:
    attention, network = spec.layers[0].attention, spec.layers[0].feed_forward
    assert isinstance(network, FeedForwardSpec)
    keys, values, end = attention.q_dim, attention.q_dim + attention.kv_dim, attention.q_dim + 2 * attention.kv_dim
    inner = network.intermediate_dim
    return {
        "embedding.weight": "model.embed_tokens.weight",
        "layers.{i}.attention_norm.weight": "model.layers.{i}.input_layernorm.weight",
        "layers.{i}.attention.wq": Rows(QKV, 0, keys),
        "layers.{i}.attention.wk": Rows(QKV, keys, values),
        "layers.{i}.attention.wv": Rows(QKV, values, end),
        "layers.{i}.attention.wo": "model.layers.{i}.self_attn.o_proj.weight",
        "layers.{i}.ff_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
        "layers.{i}.feed_forward.w1": Rows(GATE_UP, 0, inner),
        "layers.{i}.feed_forward.w3": Rows(GATE_UP, inner, 2 * inner),
        "layers.{i}.feed_forward.w2": "model.layers.{i}.mlp.down_proj.weight",
        "norm.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    }


FAMILY = Family(
    name="phi3",
    architectures=("Phi3ForCausalLM",),
    spec=ModuleSpecFactory.causal_lm_from_config,
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "model.embed_tokens"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", "model.layers.{i}.input_layernorm"),
        Pair("L{i}.self_attn", "layers.{i}.attention", "model.layers.{i}.self_attn"),
        Pair("L{i}.post_attn_norm", "layers.{i}.ff_norm", "model.layers.{i}.post_attention_layernorm"),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", "model.layers.{i}.mlp"),
        Pair("L{i}.layer_out", "layers.{i}", "model.layers.{i}"),
        Pair("final_norm", "norm", "model.norm"),
        Pair("logits", "lm_head", "lm_head"),
    ),
    caches=(
        CachePair("L{i}.k_cache", "layers.{i}.attention.cache.keys", "keys", after="L{i}.self_attn", interleaved=True),
        CachePair("L{i}.v_cache", "layers.{i}.attention.cache.values", "values", after="L{i}.self_attn"),
    ),
    weights=_weights,
)
