# SPDX-License-Identifier: Apache-2.0
"""Qwen3-MoE: Qwen3 with a mixture of experts in most or all layers."""

from tttdebug.families.family import Family
from tttdebug.families.sources import ExpertRows, Source
from tttdebug.specs import CausalLMSpec, MixtureOfExpertsSpec, ModuleSpecFactory
from tttdebug.tracking.pairing import CachePair, Pair

GATE_UP = "model.layers.{i}.mlp.experts.gate_up_proj"
DOWN = "model.layers.{i}.mlp.experts.down_proj"


def _weights(spec: CausalLMSpec) -> dict[str, "str | Source"]:
    table: dict[str, str | Source] = {
        "embedding.weight": "model.embed_tokens.weight",
        "layers.{i}.attention_norm.weight": "model.layers.{i}.input_layernorm.weight",
        "layers.{i}.attention.wq": "model.layers.{i}.self_attn.q_proj.weight",
        "layers.{i}.attention.wk": "model.layers.{i}.self_attn.k_proj.weight",
        "layers.{i}.attention.wv": "model.layers.{i}.self_attn.v_proj.weight",
        "layers.{i}.attention.wo": "model.layers.{i}.self_attn.o_proj.weight",
        "layers.{i}.attention.bq": "model.layers.{i}.self_attn.q_proj.bias",
        "layers.{i}.attention.bk": "model.layers.{i}.self_attn.k_proj.bias",
        "layers.{i}.attention.bv": "model.layers.{i}.self_attn.v_proj.bias",
        "layers.{i}.attention.bo": "model.layers.{i}.self_attn.o_proj.bias",
        "layers.{i}.attention.q_norm.weight": "model.layers.{i}.self_attn.q_norm.weight",
        "layers.{i}.attention.k_norm.weight": "model.layers.{i}.self_attn.k_norm.weight",
        "layers.{i}.ff_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
        "layers.{i}.feed_forward.router.weight": "model.layers.{i}.mlp.gate.weight",
        "layers.{i}.feed_forward.w1": "model.layers.{i}.mlp.gate_proj.weight",
        "layers.{i}.feed_forward.w2": "model.layers.{i}.mlp.down_proj.weight",
        "layers.{i}.feed_forward.w3": "model.layers.{i}.mlp.up_proj.weight",
        "norm.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    }
    for mixture in {layer.feed_forward for layer in spec.layers}:
        if isinstance(mixture, MixtureOfExpertsSpec):
            inner = mixture.expert.intermediate_dim
            for x in range(mixture.num_experts):
                expert = f"layers.{{i}}.feed_forward.experts.{x}"
                table[f"{expert}.w1"] = ExpertRows(GATE_UP, x, 0, inner)
                table[f"{expert}.w3"] = ExpertRows(GATE_UP, x, inner, 2 * inner)
                table[f"{expert}.w2"] = ExpertRows(DOWN, x, 0, mixture.hidden_dim)
    return table


FAMILY = Family(
    name="qwen3_moe",
    architectures=("Qwen3MoeForCausalLM",),
    spec=ModuleSpecFactory.causal_lm_from_config,
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "model.embed_tokens"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", "model.layers.{i}.input_layernorm"),
        Pair("L{i}.self_attn", "layers.{i}.attention", "model.layers.{i}.self_attn"),
        Pair("L{i}.post_attn_norm", "layers.{i}.ff_norm", "model.layers.{i}.post_attention_layernorm"),
        Pair("L{i}.router", "layers.{i}.feed_forward.router", "model.layers.{i}.mlp.gate"),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", "model.layers.{i}.mlp"),
        Pair("L{i}.layer_out", "layers.{i}", "model.layers.{i}"),
        Pair("final_norm", "norm", "model.norm"),
        Pair("logits", "lm_head", "lm_head"),
    ),
    caches=(
        CachePair("L{i}.k_cache", "layers.{i}.attention.cache.keys", "keys", after="L{i}.self_attn", interleaved=True),
        CachePair("L{i}.v_cache", "layers.{i}.attention.cache.values", "values", after="L{i}.self_attn"),
    ),
    needs="a hub id, a folder or a torch module; transformers 5, which keeps all experts in one tensor",
    weights=_weights,
)
