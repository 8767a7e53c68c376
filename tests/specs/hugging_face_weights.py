# SPDX-License-Identifier: Apache-2.0
"""State dicts of Hugging Face models under the names that `spec_in_torch` reads, fused matrices taken apart.

Names as transformers 4 and 5 write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from tttdebug.specs import AttentionSpec

RENAMES = (
    (r"^(model|transformer|gpt_neox|bert|vit|encoder)\.", ""),
    (r"^encoder\.", ""),
    (r"^(h|layer)\.", "layers."),
    # embeddings
    (r"^(embed_tokens|embed_in|wte|embeddings\.word_embeddings)\.weight", "embedding.tokens"),
    (r"^(wpe|embeddings\.position_embeddings)\.weight|^embeddings\.position_embeddings$", "embedding.positions"),
    (r"^embeddings\.token_type_embeddings\.weight", "embedding.types"),
    (r"^embeddings\.LayerNorm", "embedding.norm"),
    (r"^embeddings\.cls_token", "embedding.class_token"),
    (r"^embeddings\.patch_embeddings\.projection", "embedding.patches"),
    # attention
    (r"\.(self_attn|attn)\.", ".attention."),
    (r"\.attention\.(self|attention)\.(q|k|v)[a-z]+\.", r".attention.\2."),
    (r"\.attention\.output\.dense|\.attention\.dense", ".attention.o"),
    (r"\.attention\.query_key_value", ".attention.qkv_by_head"),
    (r"\.attention\.(q|k|v|o|qkv)_proj\.", r".attention.\1."),
    (r"\.attention\.c_attn", ".attention.qkv"),
    (r"\.attention\.c_proj", ".attention.o"),
    # feed-forward
    (r"\.(mlp|block_sparse_moe)\.gate\.weight", ".feed_forward.router.weight"),
    (r"\.block_sparse_moe\.experts\.(\d+)\.w1\.", r".feed_forward.experts.\1.gate."),
    (r"\.block_sparse_moe\.experts\.(\d+)\.w2\.", r".feed_forward.experts.\1.down."),
    (r"\.block_sparse_moe\.experts\.(\d+)\.w3\.", r".feed_forward.experts.\1.up."),
    (r"\.mlp\.gate\.e_score_correction_bias", ".feed_forward.router.selection_bias"),
    (r"\.mlp\.", ".feed_forward."),
    (r"\.shared_experts\.", ".shared_expert."),
    (r"\.feed_forward\.((?:experts\.\d+|shared_expert)\.)?(gate|up|down)_proj\.", r".feed_forward.\1\2."),
    (r"\.feed_forward\.gate_up_proj\.", ".feed_forward.gate_up."),
    (r"\.feed_forward\.(c_fc|fc1|dense_h_to_4h)|\.intermediate\.dense", ".feed_forward.up"),
    (r"\.feed_forward\.(c_proj|fc2|dense_4h_to_h)|(?<!attention)\.output\.dense", ".feed_forward.down"),
    # norms and ends
    (r"\.(input_layernorm|ln_1)\.", ".input_norm."),
    (r"\.(post_attention_layernorm|ln_2)\.", ".post_attention_norm."),
    (r"\.(pre|post)_feedforward_layernorm", r".\1_feed_forward_norm"),
    (r"\.attention\.output\.LayerNorm|\.layernorm_before", ".attention_norm"),
    (r"\.output\.LayerNorm|\.layernorm_after", ".feed_forward_norm"),
    (r"^(norm|ln_f|layernorm|final_layernorm|final_layer_norm)\.", "final_norm."),
    (r"^pooler\.dense", "pooler"),
)


def plain_weights(model: nn.Module, attention: AttentionSpec) -> dict[str, Tensor]:
    """The weights of any of the tested models under plain names, every projection as [out, in]."""
    plain = _renamed(model.state_dict(), attention)
    if model.config.model_type == "cohere":  # which turns neighbours, where the others turn halves
        for name in [name for name in plain if re.search(r"attention\.[qk]\.", name)]:
            heads = plain[name].unflatten(0, (-1, attention.head_dim // 2, 2))
            plain[name] = heads.transpose(1, 2).flatten(0, 2)
    return plain


def _renamed(state: Mapping[str, Tensor], attention: AttentionSpec) -> dict[str, Tensor]:
    plain = {}
    for name, tensor in state.items():
        transposed = name.startswith("transformer.h.") and ".c_" in name  # GPT-2 keeps its matrices as [in, out]
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        plain |= _taken_apart(name, tensor.mT if transposed and tensor.dim() == 2 else tensor, attention)
    return plain


def _taken_apart(name: str, tensor: Tensor, attention: AttentionSpec) -> dict[str, Tensor]:
    if ".attention.qkv." in name:
        parts = tensor.split([attention.q_dim, attention.kv_dim, attention.kv_dim])
        return {name.replace("qkv", which): part for which, part in zip("qkv", parts, strict=True)}
    if ".attention.qkv_by_head." in name:
        parts = tensor.unflatten(0, (attention.num_heads, 3, -1)).transpose(0, 1).flatten(1, 2)
        return {name.replace("qkv_by_head", which): part for which, part in zip("qkv", parts, strict=True)}
    if ".gate_up." in name:
        return dict(zip((name.replace("gate_up", "gate"), name.replace("gate_up", "up")), tensor.chunk(2), strict=True))
    if name.endswith("experts.gate_up_proj"):
        parts = {}
        for expert, matrix in enumerate(tensor):
            gate, up = matrix.chunk(2)
            path = name.replace("gate_up_proj", str(expert))
            parts |= {f"{path}.gate.weight": gate, f"{path}.up.weight": up}
        return parts
    if name.endswith("experts.down_proj"):
        return {name.replace("down_proj", f"{expert}.down.weight"): matrix for expert, matrix in enumerate(tensor)}
    if name == "embedding.patches.weight":
        return {name: tensor.flatten(1)}
    return {name: tensor}
