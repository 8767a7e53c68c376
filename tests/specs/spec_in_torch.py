# SPDX-License-Identifier: Apache-2.0
"""What a spec says, word for word in plain torch: the tests' own reading of it, to hold against Hugging Face's classes.

B batch, S positions, D hidden, H query heads, K key/value heads, E head dim, V vocabulary, T tokens (B times S).
Weights go by one set of names; `hugging_face_weights.py` brings every model's into it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from tttdebug.specs import (
    AttentionSpec,
    CausalLMSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    EncoderLayerSpec,
    EncoderModelSpec,
    FeedForwardSpec,
    MixtureOfExpertsSpec,
    NormSpec,
    RopeSpec,
)

NONLINEARITY = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "relu2": lambda x: functional.relu(x) ** 2,
}


class Weights:
    """Tensors under a prefix; `has_bias` of a spec decides whether a bias must be there."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        self.tensors, self.prefix = tensors, prefix

    def under(self, name: str) -> Weights:
        return Weights(self.tensors, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.prefix + name]

    def linear(self, x: Tensor, name: str, bias: bool) -> Tensor:
        assert (f"{self.prefix}{name}.bias" in self.tensors) == bias
        return functional.linear(x, self[f"{name}.weight"], self[f"{name}.bias"] if bias else None)


def soft_cap(x: Tensor, cap: float | None) -> Tensor:
    return x if cap is None else cap * torch.tanh(x / cap)


def norm(spec: NormSpec, w: Weights, x: Tensor) -> Tensor:
    if spec.norm_type == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    scale = w["weight"] + 1 if spec.unit_offset else w["weight"]
    x = x / torch.sqrt(x.square().mean(-1, keepdim=True) + spec.eps) * scale
    return x + w["bias"] if spec.bias else x


def rope_frequencies(spec: RopeSpec, dim: int) -> Tensor:
    freqs = 1.0 / spec.theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if spec.scaling == "linear":
        return freqs / spec.factor
    if spec.scaling == "llama3":
        turns = spec.original_max_position * freqs / (2 * math.pi)
        kept = ((turns - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor)).clamp(0, 1)
        return kept * freqs + (1 - kept) * freqs / spec.factor
    if spec.scaling == "yarn":

        def pair_that_turns(times: float) -> float:
            return dim * math.log(spec.original_max_position / (times * 2 * math.pi)) / (2 * math.log(spec.theta))

        low, high = pair_that_turns(spec.beta_fast), pair_that_turns(spec.beta_slow)
        if spec.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        divided = ((torch.arange(dim // 2) - low) / max(high - low, 0.001)).clamp(0, 1)
        return divided * freqs / spec.factor + (1 - divided) * freqs
    return freqs


def rotate(spec: RopeSpec, x_BHSE: Tensor, rotary_dim: int) -> Tensor:
    turned, kept = x_BHSE[..., :rotary_dim], x_BHSE[..., rotary_dim:]
    angles = torch.outer(torch.arange(x_BHSE.shape[2]).double(), rope_frequencies(spec, rotary_dim))
    cos, sin = angles.cos() * spec.cos_sin_scale, angles.sin() * spec.cos_sin_scale
    first, second = turned.chunk(2, dim=-1)  # Hugging Face pairs element i with element i + rotary_dim / 2
    return torch.cat([first * cos - second * sin, second * cos + first * sin, kept], dim=-1)


def attention(spec: AttentionSpec, w: Weights, x_BSD: Tensor) -> Tensor:
    B, S, _ = x_BSD.shape

    def heads(name: str, count: int) -> Tensor:
        return w.linear(x_BSD, name, spec.qkv_bias).view(B, S, count, spec.head_dim).transpose(1, 2)

    q_BHSE, k_BKSE, v_BKSE = heads("q", spec.num_heads), heads("k", spec.num_kv_heads), heads("v", spec.num_kv_heads)
    if spec.qk_norm is not None:
        q_BHSE, k_BKSE = norm(spec.qk_norm, w.under("q_norm"), q_BHSE), norm(spec.qk_norm, w.under("k_norm"), k_BKSE)
    if spec.rope is not None:
        q_BHSE, k_BKSE = rotate(spec.rope, q_BHSE, spec.rotary_dim), rotate(spec.rope, k_BKSE, spec.rotary_dim)
    k_BHSE, v_BHSE = (kv.repeat_interleave(spec.queries_per_kv_head, dim=1) for kv in (k_BKSE, v_BKSE))
    scores_BHSS = soft_cap(spec.softmax_scale * q_BHSE @ k_BHSE.transpose(-1, -2), spec.logit_softcap)
    query, key = torch.arange(S)[:, None], torch.arange(S)[None, :]
    if spec.causal:
        scores_BHSS = scores_BHSS.masked_fill(key > query, -torch.inf)
    if spec.sliding_window is not None:
        scores_BHSS = scores_BHSS.masked_fill(key <= query - spec.sliding_window, -torch.inf)
    out_BSD = (scores_BHSS.softmax(-1) @ v_BHSE).transpose(1, 2).reshape(B, S, spec.q_dim)
    return w.linear(out_BSD, "o", spec.output_bias)


def feed_forward(spec: FeedForwardSpec | MixtureOfExpertsSpec, w: Weights, x: Tensor) -> Tensor:
    if isinstance(spec, MixtureOfExpertsSpec):
        return mixture(spec, w, x.reshape(-1, spec.hidden_dim)).view_as(x)
    inner = NONLINEARITY[spec.nonlinearity](w.linear(x, "gate" if spec.is_gated else "up", spec.bias))
    if spec.is_gated:
        inner = inner * w.linear(x, "up", spec.bias)
    return w.linear(inner, "down", spec.bias)


def mixture(spec: MixtureOfExpertsSpec, w: Weights, x_TD: Tensor) -> Tensor:
    logits = w.linear(x_TD, "router", spec.router_bias)
    scores = logits.softmax(-1) if spec.router_scoring == "softmax" else logits.sigmoid()
    chosen_by = scores + w["router.selection_bias"] if spec.selection_bias else scores
    experts = chosen_by.topk(spec.experts_per_token, dim=-1).indices
    kept = scores.gather(-1, experts)
    if spec.normalise_scores:
        kept = kept / kept.sum(-1, keepdim=True)
    share = torch.zeros_like(scores).scatter(-1, experts, kept)  # of each expert in each token's output
    outputs = (feed_forward(spec.expert, w.under(f"experts.{expert}"), x_TD) for expert in range(spec.num_experts))
    out_TD = sum(share[:, expert, None] * output for expert, output in enumerate(outputs))
    out_TD = spec.routed_scale * out_TD
    if spec.shared_expert is None:
        return out_TD
    shared_TD = feed_forward(spec.shared_expert, w.under("shared_expert"), x_TD)
    if spec.shared_expert_gate:
        shared_TD = shared_TD * w.linear(x_TD, "shared_expert_gate", False).sigmoid()
    return out_TD + shared_TD


def decoder_layer(spec: DecoderLayerSpec, w: Weights, x_BSD: Tensor) -> Tensor:
    attended = attention(spec.attention, w.under("attention"), norm(spec.input_norm, w.under("input_norm"), x_BSD))
    if spec.norms_branch_outputs:
        h_BSD = x_BSD + norm(spec.post_attention_norm, w.under("post_attention_norm"), attended)
        inner = norm(spec.pre_feed_forward_norm, w.under("pre_feed_forward_norm"), h_BSD)
        outer = feed_forward(spec.feed_forward, w.under("feed_forward"), inner)
        return h_BSD + norm(spec.post_feed_forward_norm, w.under("post_feed_forward_norm"), outer)
    if spec.parallel_residual:
        own = spec.post_attention_norm, "post_attention_norm"
        shared = spec.input_norm, "input_norm"
        which, name = shared if spec.post_attention_norm is None else own
        return (
            x_BSD
            + attended
            + feed_forward(spec.feed_forward, w.under("feed_forward"), norm(which, w.under(name), x_BSD))
        )
    h_BSD = x_BSD + attended
    inner = norm(spec.post_attention_norm, w.under("post_attention_norm"), h_BSD)
    return h_BSD + feed_forward(spec.feed_forward, w.under("feed_forward"), inner)


def encoder_layer(spec: EncoderLayerSpec, w: Weights, x_BSD: Tensor) -> Tensor:
    def attend(x: Tensor) -> Tensor:
        return attention(spec.attention, w.under("attention"), x)

    def forward(x: Tensor) -> Tensor:
        return feed_forward(spec.feed_forward, w.under("feed_forward"), x)

    def first(x: Tensor) -> Tensor:
        return norm(spec.attention_norm, w.under("attention_norm"), x)

    def second(x: Tensor) -> Tensor:
        return norm(spec.feed_forward_norm, w.under("feed_forward_norm"), x)

    if spec.norm_position == "pre":
        h_BSD = x_BSD + attend(first(x_BSD))
        return h_BSD + forward(second(h_BSD))
    h_BSD = first(x_BSD + attend(x_BSD))
    return second(h_BSD + forward(h_BSD))


def embed_tokens(spec: EmbeddingSpec, w: Weights, ids_BS: Tensor) -> Tensor:
    x_BSD = w["tokens"][ids_BS] * (1.0 if spec.scale is None else spec.scale)
    if spec.learned_positions is not None:
        x_BSD = x_BSD + w["positions"][: ids_BS.shape[1]]
    if spec.token_types is not None:
        x_BSD = x_BSD + w["types"][0]
    return x_BSD if spec.norm is None else norm(spec.norm, w.under("norm"), x_BSD)


def causal_lm(spec: CausalLMSpec, w: Weights, ids_BS: Tensor) -> Tensor:
    """Logits [B, S, V]."""
    x_BSD = embed_tokens(spec.embedding, w.under("embedding"), ids_BS)
    for index, layer in enumerate(spec.layers):
        x_BSD = decoder_layer(layer, w.under(f"layers.{index}"), x_BSD)
    x_BSD = norm(spec.final_norm, w.under("final_norm"), x_BSD)
    head = w["embedding.tokens"] if spec.lm_head.tied else w["lm_head.weight"]
    bias = w["lm_head.bias"] if spec.lm_head.bias else None
    logits = functional.linear(x_BSD, head, bias) * (spec.lm_head.logit_scale or 1.0)
    return soft_cap(logits, spec.lm_head.logit_softcap)


def encoder(spec: EncoderModelSpec, w: Weights, inputs: Tensor) -> Tensor:
    """What the model ends in: classes, the pooled vector, or all positions."""
    if isinstance(spec.embedding, EmbeddingSpec):
        x_BSD = embed_tokens(spec.embedding, w.under("embedding"), inputs)
    else:
        patches = functional.unfold(inputs, spec.embedding.patch_size, stride=spec.embedding.patch_size).transpose(1, 2)
        x_BSD = w.under("embedding").linear(patches, "patches", spec.embedding.bias)
        if spec.embedding.class_token:
            x_BSD = torch.cat([w["embedding.class_token"].expand(len(inputs), 1, -1), x_BSD], dim=1)
        x_BSD = x_BSD + w["embedding.positions"]
    for index, layer in enumerate(spec.layers):
        x_BSD = encoder_layer(layer, w.under(f"layers.{index}"), x_BSD)
    if spec.final_norm is not None:
        x_BSD = norm(spec.final_norm, w.under("final_norm"), x_BSD)
    if spec.pooler is not None:
        out = getattr(torch, spec.pooler.activation)(w.linear(x_BSD[:, 0], "pooler", spec.pooler.bias))
    else:
        out = x_BSD[:, 0] if spec.classifier is not None else x_BSD
    return out if spec.classifier is None else w.linear(out, "classifier", spec.classifier.bias)
