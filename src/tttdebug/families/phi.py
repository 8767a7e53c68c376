# SPDX-License-Identifier: Apache-2.0
"""Phi-1, Phi-1.5 and Phi-2: attention and feed-forward side by side after one layer norm, part of each head turns."""

from tttdebug.families.family import Family
from tttdebug.specs import ModuleSpecFactory
from tttdebug.tracking.pairing import CachePair, Pair

LAYER, ATTENTION, MLP = "model.layers.{i}", "model.layers.{i}.self_attn", "model.layers.{i}.mlp"

FAMILY = Family(
    name="phi",
    architectures=("PhiForCausalLM",),
    spec=ModuleSpecFactory.causal_lm_from_config,
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "model.embed_tokens"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", f"{LAYER}.input_layernorm"),
        Pair("L{i}.self_attn", "layers.{i}.attention", ATTENTION),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", MLP),
        Pair("L{i}.layer_out", "layers.{i}", LAYER),
        Pair("final_norm", "norm", "model.final_layernorm"),
        Pair("logits", "lm_head", "lm_head"),
    ),
    caches=(
        CachePair("L{i}.k_cache", "layers.{i}.attention.cache.keys", "keys", after="L{i}.self_attn", interleaved=True),
        CachePair("L{i}.v_cache", "layers.{i}.attention.cache.values", "values", after="L{i}.self_attn"),
    ),
    weights={
        "embedding.weight": "model.embed_tokens.weight",
        "layers.{i}.attention_norm.weight": f"{LAYER}.input_layernorm.weight",
        "layers.{i}.attention_norm.bias": f"{LAYER}.input_layernorm.bias",
        "layers.{i}.attention.wq": f"{ATTENTION}.q_proj.weight",
        "layers.{i}.attention.bq": f"{ATTENTION}.q_proj.bias",
        "layers.{i}.attention.wk": f"{ATTENTION}.k_proj.weight",
        "layers.{i}.attention.bk": f"{ATTENTION}.k_proj.bias",
        "layers.{i}.attention.wv": f"{ATTENTION}.v_proj.weight",
        "layers.{i}.attention.bv": f"{ATTENTION}.v_proj.bias",
        "layers.{i}.attention.wo": f"{ATTENTION}.dense.weight",
        "layers.{i}.attention.bo": f"{ATTENTION}.dense.bias",
        "layers.{i}.feed_forward.w1": f"{MLP}.fc1.weight",
        "layers.{i}.feed_forward.b1": f"{MLP}.fc1.bias",
        "layers.{i}.feed_forward.w2": f"{MLP}.fc2.weight",
        "layers.{i}.feed_forward.b2": f"{MLP}.fc2.bias",
        "norm.weight": "model.final_layernorm.weight",
        "norm.bias": "model.final_layernorm.bias",
        "lm_head.weight": "lm_head.weight",
        "lm_head.bias": "lm_head.bias",
    },
)
