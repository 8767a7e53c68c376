# SPDX-License-Identifier: Apache-2.0
"""GPT-NeoX and Pythia: attention and feed-forward side by side, a layer norm each; query, key, value fused by head."""

from tttdebug.families.family import Family
from tttdebug.families.sources import HeadRows, Source
from tttdebug.specs import CausalLMSpec, ModuleSpecFactory
from tttdebug.tracking.pairing import CachePair, Pair

LAYER, ATTENTION, MLP = "gpt_neox.layers.{i}", "gpt_neox.layers.{i}.attention", "gpt_neox.layers.{i}.mlp"


def _weights(spec: CausalLMSpec) -> dict[str, "str | Source"]:
    heads = spec.layers[0].attention.num_heads
    return {
        "embedding.weight": "gpt_neox.embed_in.weight",
        "layers.{i}.attention_norm.weight": f"{LAYER}.input_layernorm.weight",
        "layers.{i}.attention_norm.bias": f"{LAYER}.input_layernorm.bias",
        "layers.{i}.attention.wq": HeadRows(f"{ATTENTION}.query_key_value.weight", heads, 0),
        "layers.{i}.attention.wk": HeadRows(f"{ATTENTION}.query_key_value.weight", heads, 1),
        "layers.{i}.attention.wv": HeadRows(f"{ATTENTION}.query_key_value.weight", heads, 2),
        "layers.{i}.attention.bq": HeadRows(f"{ATTENTION}.query_key_value.bias", heads, 0),
        "layers.{i}.attention.bk": HeadRows(f"{ATTENTION}.query_key_value.bias", heads, 1),
        "layers.{i}.attention.bv": HeadRows(f"{ATTENTION}.query_key_value.bias", heads, 2),
        "layers.{i}.attention.wo": f"{ATTENTION}.dense.weight",
        "layers.{i}.attention.bo": f"{ATTENTION}.dense.bias",
        "layers.{i}.ff_norm.weight": f"{LAYER}.post_attention_layernorm.weight",
        "layers.{i}.ff_norm.bias": f"{LAYER}.post_attention_layernorm.bias",
        "layers.{i}.feed_forward.w1": f"{MLP}.dense_h_to_4h.weight",
        "layers.{i}.feed_forward.b1": f"{MLP}.dense_h_to_4h.bias",
        "layers.{i}.feed_forward.w2": f"{MLP}.dense_4h_to_h.weight",
        "layers.{i}.feed_forward.b2": f"{MLP}.dense_4h_to_h.bias",
        "norm.weight": "gpt_neox.final_layer_norm.weight",
        "norm.bias": "gpt_neox.final_layer_norm.bias",
        "lm_head.weight": "lm_head.weight",
    }


FAMILY = Family(
    name="gpt_neox",
    architectures=("GPTNeoXForCausalLM",),
    spec=ModuleSpecFactory.causal_lm_from_config,
    needs="a hub id, a folder or a torch module; transformers 5, which calls the head lm_head",
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "gpt_neox.embed_in"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", f"{LAYER}.input_layernorm"),
        Pair("L{i}.self_attn", "layers.{i}.attention", ATTENTION),
        Pair("L{i}.post_attn_norm", "layers.{i}.ff_norm", f"{LAYER}.post_attention_layernorm"),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", MLP),
        Pair("L{i}.layer_out", "layers.{i}", LAYER),
        Pair("final_norm", "norm", "gpt_neox.final_layer_norm"),
        Pair("logits", "lm_head", "lm_head"),
    ),
    caches=(
        CachePair("L{i}.k_cache", "layers.{i}.attention.cache.keys", "keys", after="L{i}.self_attn", interleaved=True),
        CachePair("L{i}.v_cache", "layers.{i}.attention.cache.values", "values", after="L{i}.self_attn"),
    ),
    weights=_weights,
)
