# SPDX-License-Identifier: Apache-2.0
"""ViT, bare or with a classifier of images; names as transformers 5 has them."""

from tttdebug.families.family import Family
from tttdebug.families.sources import Reshaped, Source
from tttdebug.specs import EncoderModelSpec, ModuleSpecFactory
from tttdebug.tracking.pairing import Pair


def _weights(spec: EncoderModelSpec) -> dict[str, "str | Source"]:
    width = spec.hidden_dim
    return {
        "embedding.weight": Reshaped("vit.embeddings.patch_embeddings.projection.weight", (width, -1)),
        "embedding.bias": "vit.embeddings.patch_embeddings.projection.bias",
        "embedding.class_token": Reshaped("vit.embeddings.cls_token", (1, width)),
        "embedding.positions": Reshaped("vit.embeddings.position_embeddings", (-1, width)),
        "layers.{i}.attention_norm.weight": "vit.layers.{i}.layernorm_before.weight",
        "layers.{i}.attention_norm.bias": "vit.layers.{i}.layernorm_before.bias",
        "layers.{i}.attention.wq": "vit.layers.{i}.attention.q_proj.weight",
        "layers.{i}.attention.bq": "vit.layers.{i}.attention.q_proj.bias",
        "layers.{i}.attention.wk": "vit.layers.{i}.attention.k_proj.weight",
        "layers.{i}.attention.bk": "vit.layers.{i}.attention.k_proj.bias",
        "layers.{i}.attention.wv": "vit.layers.{i}.attention.v_proj.weight",
        "layers.{i}.attention.bv": "vit.layers.{i}.attention.v_proj.bias",
        "layers.{i}.attention.wo": "vit.layers.{i}.attention.o_proj.weight",
        "layers.{i}.attention.bo": "vit.layers.{i}.attention.o_proj.bias",
        "layers.{i}.ff_norm.weight": "vit.layers.{i}.layernorm_after.weight",
        "layers.{i}.ff_norm.bias": "vit.layers.{i}.layernorm_after.bias",
        "layers.{i}.feed_forward.w1": "vit.layers.{i}.mlp.fc1.weight",
        "layers.{i}.feed_forward.b1": "vit.layers.{i}.mlp.fc1.bias",
        "layers.{i}.feed_forward.w2": "vit.layers.{i}.mlp.fc2.weight",
        "layers.{i}.feed_forward.b2": "vit.layers.{i}.mlp.fc2.bias",
        "norm.weight": "vit.layernorm.weight",
        "norm.bias": "vit.layernorm.bias",
        "pooler.weight": "vit.pooler.dense.weight",
        "pooler.bias": "vit.pooler.dense.bias",
        "classifier.weight": "classifier.weight",
        "classifier.bias": "classifier.bias",
    }


FAMILY = Family(
    name="vit",
    architectures=("ViTModel", "ViTForImageClassification"),
    spec=ModuleSpecFactory.encoder_from_config,
    bare_prefix="vit.",
    needs="a hub id, a folder or a torch module, and --image FILE (else random pixels); transformers 5",
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "vit.embeddings"),
        Pair("L{i}.input_norm", "layers.{i}.attention_norm", "vit.layers.{i}.layernorm_before"),
        Pair("L{i}.self_attn", "layers.{i}.attention", "vit.layers.{i}.attention"),
        Pair("L{i}.post_attn_norm", "layers.{i}.ff_norm", "vit.layers.{i}.layernorm_after"),
        Pair("L{i}.mlp", "layers.{i}.feed_forward", "vit.layers.{i}.mlp"),
        Pair("L{i}.layer_out", "layers.{i}", "vit.layers.{i}"),
        Pair("final_norm", "norm", "vit.layernorm"),
        Pair("pooler", "pooler", "vit.pooler"),
        Pair("classifier", "classifier", "classifier"),
    ),
    weights=_weights,
)
