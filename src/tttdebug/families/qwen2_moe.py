# SPDX-License-Identifier: Apache-2.0
"""Qwen1.5-MoE and Qwen2-MoE: a mixture of experts beside a shared expert, which a sigmoid gates."""

from tttdebug.families.family import Family
from tttdebug.families.sources import ExpertRows, Source
from tttdebug.specs import CausalLMSpec, MixtureOfExpertsSpec, ModuleSpecFactory
from tttdebug.tracking.pairing import CachePair, Pair

LAYER, ATTENTION, MLP = "model.layers.{i}", "model.layers.{i}.self_attn", "model.layers.{i}.mlp"


def _weights(spec: CausalLMSpec) -> dict[str, "str | Source"]:
    table: dict[str, str | Source] = {
        "embedding.weight": "model.embed_tokens.weight",
        "layers.{i}.attention_norm.weight": f"{LAYER}.input_layernorm.weight",
        "layers.{i}.attention.wq": f"{ATTENTION}.q_proj.weight",
        "layers.{i}.attention.wk": f"{ATTENTION}.k_proj.weight",
        "layers.{i}.attention.wv": f"{ATTENTION}.v_proj.weight",
        "layers.{i}.attention.wo": f"{ATTENTION}.o_proj.weight",
        "layers.{i}.attention.bq": f"{ATTENTION}.q_proj.bias",
        "layers.{i}.attention.bk": f"{ATTENTION}.k_proj.bias",
        "layers.{i}.attention.bv": f"{ATTENTION}.v_proj.bias",
        "layers.{i}.ff_norm.weight": f"{LAYER}.post_attention_layernorm.weight",
        "layers.{i}.feed_forward.router.weight": f"{MLP}.gate.weight",
        "layers.{i}.feed_forward.shared_expert_gate": f"{MLP}.shared_expert_gate.weight",
        "layers.{i}.feed_forward.shared_expert.w1": f"{MLP}.shared_expert.gate_proj.weight",
        "layers.{i}.feed_forward.shared_expert.w2": f"{MLP}.shared_expert.down_proj.weight",
        "layers.{i}.feed_forward.shared_expert.w3": f"{MLP}.shared_expert.up_proj.weight",
        "layers.{i}.feed_forward.w1": f"{MLP}.gate_proj.weight",
        "layers.{i}.feed_forward.w2": f"{MLP}.down_proj.weight",
        "layers.{i}.feed_forward.w3": f"{MLP}.up_proj.weight",
        "norm.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    }
    for mixture in {layer.feed_forward for layer in spec.layers}:
        if isinstance(mixture, MixtureOfExpertsSpec):
            inner = mixture.expert.intermediate_dim
            for x in range(mixture.num_experts):
                expert = f"layers.{{i}}.feed_forward.experts.{x}"
                table[f"{expert}.w1"] = ExpertRows(f"{MLP}.experts.gate_up_proj", x, 0, inner)
                table[f"{expert}.w3"] = ExpertRows(f"{MLP}.experts.gate_up_proj", x, inner, 2 * inner)
                table[f"{expert}.w2"] = ExpertRows(f"{MLP}.experts.down_proj", x, 0, mixture.hidden_dim)
    return table


FAMILY = Family(
    name="qwen2_moe",
    architectures=("Qwen2MoeForCausalLM",),
    spec=ModuleSpecFactory.causal_lm_from_config,
    needs="a hub id, a folder or a torch module; transformers 5, which keeps all experts in one tensor",
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "model.embed_tokens"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", f"{LAYER}.input_layernorm"),
        Pair("L{i}.self_attn", "layers.{i}.attention", ATTENTION),
        Pair("L{i}.post_attn_norm", "layers.{i}.ff_norm", f"{LAYER}.post_attention_layernorm"),
        Pair("L{i}.router", "layers.{i}.feed_forward.router", f"{MLP}.gate"),
        Pair("L{i}.shared_expert", "layers.{i}.feed_forward.shared_expert", f"{MLP}.shared_expert"),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", MLP),
        Pair("L{i}.layer_out", "layers.{i}", LAYER),
        Pair("final_norm", "norm", "model.norm"),
        Pair("logits", "lm_head", "lm_head"),
    ),
    caches=(
        CachePair("L{i}.k_cache", "layers.{i}.attention.cache.keys", "keys", after="L{i}.self_attn", interleaved=True),
        CachePair("L{i}.v_cache", "layers.{i}.attention.cache.values", "values", after="L{i}.self_attn"),
    ),
    weights=_weights,
)
