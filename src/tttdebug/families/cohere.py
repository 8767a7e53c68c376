# SPDX-License-Identifier: Apache-2.0
"""Cohere's Command R: both branches after one layer norm, logits scaled, and neighbours that turn, not halves."""

from tttdebug.families.family import Family
from tttdebug.families.sources import NeighbourPairs, Source
from tttdebug.specs import CausalLMSpec, ModuleSpecFactory
from tttdebug.tracking.pairing import CachePair, Pair

LAYER, ATTENTION, MLP = "model.layers.{i}", "model.layers.{i}.self_attn", "model.layers.{i}.mlp"


def _weights(spec: CausalLMSpec) -> dict[str, "str | Source"]:
    attention = spec.layers[0].attention
    return {
        "embedding.weight": "model.embed_tokens.weight",
        "layers.{i}.attention_norm.weight": f"{LAYER}.input_layernorm.weight",
        "layers.{i}.attention.wq": NeighbourPairs(f"{ATTENTION}.q_proj.weight", attention.num_heads),
        "layers.{i}.attention.wk": NeighbourPairs(f"{ATTENTION}.k_proj.weight", attention.num_kv_heads),
        "layers.{i}.attention.wv": f"{ATTENTION}.v_proj.weight",
        "layers.{i}.attention.wo": f"{ATTENTION}.o_proj.weight",
        "layers.{i}.attention.bq": NeighbourPairs(f"{ATTENTION}.q_proj.bias", attention.num_heads),
        "layers.{i}.attention.bk": NeighbourPairs(f"{ATTENTION}.k_proj.bias", attention.num_kv_heads),
        "layers.{i}.attention.bv": f"{ATTENTION}.v_proj.bias",
        "layers.{i}.attention.bo": f"{ATTENTION}.o_proj.bias",
        "layers.{i}.feed_forward.w1": f"{MLP}.gate_proj.weight",
        "layers.{i}.feed_forward.w2": f"{MLP}.down_proj.weight",
        "layers.{i}.feed_forward.w3": f"{MLP}.up_proj.weight",
        "norm.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    }


FAMILY = Family(
    name="cohere",
    architectures=("CohereForCausalLM",),
    spec=ModuleSpecFactory.causal_lm_from_config,
    needs="a hub id, a folder or a torch module, without use_qk_norm",
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "model.embed_tokens"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", f"{LAYER}.input_layernorm"),
        Pair("L{i}.self_attn", "layers.{i}.attention", ATTENTION),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", MLP),
        Pair("L{i}.layer_out", "layers.{i}", LAYER),
        Pair("final_norm", "norm", "model.norm"),
        Pair("logits", "lm_head", ""),  # the whole model, which scales the logits outside its lm_head
    ),
    caches=(
        CachePair("L{i}.k_cache", "layers.{i}.attention.cache.keys", "keys", after="L{i}.self_attn"),
        CachePair("L{i}.v_cache", "layers.{i}.attention.cache.values", "values", after="L{i}.self_attn"),
    ),
    weights=_weights,
)
