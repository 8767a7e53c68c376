# SPDX-License-Identifier: Apache-2.0
"""BERT and sentence encoders of its shape (MiniLM), bare or with a classifier of sentences."""

from tttdebug.families.family import Family
from tttdebug.specs import ModuleSpecFactory
from tttdebug.tracking.pairing import Pair

FAMILY = Family(
    name="bert",
    architectures=("BertModel", "BertForSequenceClassification"),
    spec=ModuleSpecFactory.encoder_from_config,
    bare_prefix="bert.",
    needs="nothing: all-MiniLM-L6-v2 is fetched once; or a hub id, a folder, a torch module",
    pairs=(
        #    boundary                port                        reference
        Pair("embed", "embedding", "bert.embeddings"),
        Pair(
            "L{i}.self_attn",
            "layers.{i}.attention",
            "bert.encoder.layer.{i}.attention.output.dense",
            through=("bert.encoder.layer.{i}.attention.self",),
        ),
        Pair("L{i}.post_attn_norm", "layers.{i}.attention_norm", "bert.encoder.layer.{i}.attention.output.LayerNorm"),
        Pair(
            "L{i}.mlp",
            "layers.{i}.feed_forward",
            "bert.encoder.layer.{i}.output.dense",
            through=("bert.encoder.layer.{i}.intermediate",),
        ),
        Pair("L{i}.layer_out", "layers.{i}", "bert.encoder.layer.{i}"),
        Pair("pooler", "pooler", "bert.pooler"),
        Pair("classifier", "classifier", "classifier"),
    ),
    weights={
        "embedding.weight": "bert.embeddings.word_embeddings.weight",
        "embedding.positions": "bert.embeddings.position_embeddings.weight",
        "embedding.token_types": "bert.embeddings.token_type_embeddings.weight",
        "embedding.norm.weight": "bert.embeddings.LayerNorm.weight",
        "embedding.norm.bias": "bert.embeddings.LayerNorm.bias",
        "layers.{i}.attention.wq": "bert.encoder.layer.{i}.attention.self.query.weight",
        "layers.{i}.attention.bq": "bert.encoder.layer.{i}.attention.self.query.bias",
        "layers.{i}.attention.wk": "bert.encoder.layer.{i}.attention.self.key.weight",
        "layers.{i}.attention.bk": "bert.encoder.layer.{i}.attention.self.key.bias",
        "layers.{i}.attention.wv": "bert.encoder.layer.{i}.attention.self.value.weight",
        "layers.{i}.attention.bv": "bert.encoder.layer.{i}.attention.self.value.bias",
        "layers.{i}.attention.wo": "bert.encoder.layer.{i}.attention.output.dense.weight",
        "layers.{i}.attention.bo": "bert.encoder.layer.{i}.attention.output.dense.bias",
        "layers.{i}.attention_norm.weight": "bert.encoder.layer.{i}.attention.output.LayerNorm.weight",
        "layers.{i}.attention_norm.bias": "bert.encoder.layer.{i}.attention.output.LayerNorm.bias",
        "layers.{i}.feed_forward.w1": "bert.encoder.layer.{i}.intermediate.dense.weight",
        "layers.{i}.feed_forward.b1": "bert.encoder.layer.{i}.intermediate.dense.bias",
        "layers.{i}.feed_forward.w2": "bert.encoder.layer.{i}.output.dense.weight",
        "layers.{i}.feed_forward.b2": "bert.encoder.layer.{i}.output.dense.bias",
        "layers.{i}.ff_norm.weight": "bert.encoder.layer.{i}.output.LayerNorm.weight",
        "layers.{i}.ff_norm.bias": "bert.encoder.layer.{i}.output.LayerNorm.bias",
        "pooler.weight": "bert.pooler.dense.weight",
        "pooler.bias": "bert.pooler.dense.bias",
        "classifier.weight": "classifier.weight",
        "classifier.bias": "classifier.bias",
    },
)
