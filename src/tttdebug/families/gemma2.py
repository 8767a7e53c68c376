# SPDX-License-Identifier: Apache-2.0
"""Gemma 2: norms on branch outputs, soft caps on scores and logits, a sliding window in every other layer."""

from tttdebug.families.family import Family
from tttdebug.specs import ModuleSpecFactory
from tttdebug.tracking.pairing import CachePair, Pair

FAMILY = Family(
    name="gemma2",
    architectures=("Gemma2ForCausalLM",),
    spec=ModuleSpecFactory.causal_lm_from_config,
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "model.embed_tokens"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", "model.layers.{i}.input_layernorm"),
        Pair("L{i}.self_attn", "layers.{i}.attention", "model.layers.{i}.self_attn"),
        Pair("L{i}.post_attn_norm", "layers.{i}.post_attention_norm", "model.layers.{i}.post_attention_layernorm"),
        Pair("L{i}.pre_mlp_norm", "layers.{i}.ff_norm", "model.layers.{i}.pre_feedforward_layernorm"),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", "model.layers.{i}.mlp"),
        Pair("L{i}.post_mlp_norm", "layers.{i}.post_ff_norm", "model.layers.{i}.post_feedforward_layernorm"),
        Pair("L{i}.layer_out", "layers.{i}", "model.layers.{i}"),
        Pair("final_norm", "norm", "model.norm"),
        Pair("logits", "lm_head", ""),  # the whole model, which caps the logits outside its lm_head
    ),
    caches=(
        CachePair("L{i}.k_cache", "layers.{i}.attention.cache.keys", "keys", after="L{i}.self_attn", interleaved=True),
        CachePair("L{i}.v_cache", "layers.{i}.attention.cache.values", "values", after="L{i}.self_attn"),
    ),
    weights={
        "embedding.weight": "model.embed_tokens.weight",
        "layers.{i}.attention.bq": "model.layers.{i}.self_attn.q_proj.bias",
        "layers.{i}.attention.bk": "model.layers.{i}.self_attn.k_proj.bias",
        "layers.{i}.attention.bv": "model.layers.{i}.self_attn.v_proj.bias",
        "layers.{i}.attention.bo": "model.layers.{i}.self_attn.o_proj.bias",
        "layers.{i}.attention_norm.weight": "model.layers.{i}.input_layernorm.weight",
        "layers.{i}.attention.wq": "model.layers.{i}.self_attn.q_proj.weight",
        "layers.{i}.attention.wk": "model.layers.{i}.self_attn.k_proj.weight",
        "layers.{i}.attention.wv": "model.layers.{i}.self_attn.v_proj.weight",
        "layers.{i}.attention.wo": "model.layers.{i}.self_attn.o_proj.weight",
        "layers.{i}.post_attention_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
        "layers.{i}.ff_norm.weight": "model.layers.{i}.pre_feedforward_layernorm.weight",
        "layers.{i}.post_ff_norm.weight": "model.layers.{i}.post_feedforward_layernorm.weight",
        "layers.{i}.feed_forward.w1": "model.layers.{i}.mlp.gate_proj.weight",
        "layers.{i}.feed_forward.w2": "model.layers.{i}.mlp.down_proj.weight",
        "layers.{i}.feed_forward.w3": "model.layers.{i}.mlp.up_proj.weight",
        "norm.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    },
)
