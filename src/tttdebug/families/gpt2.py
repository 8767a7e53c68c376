# SPDX-License-Identifier: Apache-2.0
"""GPT-2: learned positions, layer norms, and matrices that the checkpoint keeps as [in, out], fused for attention."""

from tttdebug.families.family import Family
from tttdebug.families.sources import Columns, Rows, Source, Transposed
from tttdebug.specs import CausalLMSpec, ModuleSpecFactory
from tttdebug.tracking.pairing import CachePair, Pair

QKV = "transformer.h.{i}.attn.c_attn"


def _weights(spec: CausalLMSpec) -> dict[str, "str | Source"]:
    width = spec.hidden_dim
    return {
        "embedding.weight": "transformer.wte.weight",
        "embedding.positions": "transformer.wpe.weight",
        "layers.{i}.attention_norm.weight": "transformer.h.{i}.ln_1.weight",
        "layers.{i}.attention_norm.bias": "transformer.h.{i}.ln_1.bias",
        "layers.{i}.attention.wq": Columns(f"{QKV}.weight", 0, width),
        "layers.{i}.attention.wk": Columns(f"{QKV}.weight", width, 2 * width),
        "layers.{i}.attention.wv": Columns(f"{QKV}.weight", 2 * width, 3 * width),
        "layers.{i}.attention.bq": Rows(f"{QKV}.bias", 0, width),
        "layers.{i}.attention.bk": Rows(f"{QKV}.bias", width, 2 * width),
        "layers.{i}.attention.bv": Rows(f"{QKV}.bias", 2 * width, 3 * width),
        "layers.{i}.attention.wo": Transposed("transformer.h.{i}.attn.c_proj.weight"),
        "layers.{i}.attention.bo": "transformer.h.{i}.attn.c_proj.bias",
        "layers.{i}.ff_norm.weight": "transformer.h.{i}.ln_2.weight",
        "layers.{i}.ff_norm.bias": "transformer.h.{i}.ln_2.bias",
        "layers.{i}.feed_forward.w1": Transposed("transformer.h.{i}.mlp.c_fc.weight"),
        "layers.{i}.feed_forward.b1": "transformer.h.{i}.mlp.c_fc.bias",
        "layers.{i}.feed_forward.w2": Transposed("transformer.h.{i}.mlp.c_proj.weight"),
        "layers.{i}.feed_forward.b2": "transformer.h.{i}.mlp.c_proj.bias",
        "norm.weight": "transformer.ln_f.weight",
        "norm.bias": "transformer.ln_f.bias",
        "lm_head.weight": "lm_head.weight",
    }


FAMILY = Family(
    name="gpt2",
    architectures=("GPT2LMHeadModel",),
    spec=ModuleSpecFactory.causal_lm_from_config,
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "transformer.drop"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", "transformer.h.{i}.ln_1"),
        Pair("L{i}.self_attn", "layers.{i}.attention", "transformer.h.{i}.attn"),
        Pair("L{i}.post_attn_norm", "layers.{i}.ff_norm", "transformer.h.{i}.ln_2"),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", "transformer.h.{i}.mlp"),
        Pair("L{i}.layer_out", "layers.{i}", "transformer.h.{i}"),
        Pair("final_norm", "norm", "transformer.ln_f"),
        Pair("logits", "lm_head", "lm_head"),
    ),
    caches=(
        CachePair("L{i}.k_cache", "layers.{i}.attention.cache.keys", "keys", after="L{i}.self_attn"),
        CachePair("L{i}.v_cache", "layers.{i}.attention.cache.values", "values", after="L{i}.self_attn"),
    ),
    weights=_weights,
)
