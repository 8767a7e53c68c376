# SPDX-License-Identifier: Apache-2.0
"""A small Llama in the manner of TT-Transformers: it imports ttnn and torch, and knows nothing of who watches it.

Forwards bound to the instance, objects made without `__init__`, layers in a list, inputs freed inside, weights placed
when first used, decode steps of 32 rows, keys in Meta's rope order in a paged cache, the last tile before the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import torch
import ttnn

TILE, BLOCK, USERS, PREFILL_MULTIPLE = 32, 32, 32, 128


class LightweightModule:
    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


@dataclass
class LazyWeight:
    source: torch.Tensor
    device: object
    dtype: object = None
    _placed: object = field(default=None, repr=False)

    def get_device_weight(self):
        if self._placed is None:
            self._placed = ttnn.as_tensor(
                self.source,
                dtype=self.dtype or ttnn.bfloat16,
                layout=ttnn.TILE_LAYOUT,
                device=self.device,
                memory_config=ttnn.DRAM_MEMORY_CONFIG,
            )
        return self._placed


def compute_kernel():
    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=ttnn.MathFidelity.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True
    )


class RMSNorm1D(LightweightModule):
    def __init__(self, weight, eps):
        self.weight, self.eps = weight, eps
        self._bind_forward_methods()

    def _bind_forward_methods(self):
        self.decode_forward = self._decode_local
        self.prefill_forward = partial(self._prefill_local, kernel=compute_kernel())

    def _decode_local(self, x):
        return ttnn.rms_norm(x, epsilon=self.eps, weight=self.weight.get_device_weight())

    def _prefill_local(self, x, kernel):
        return ttnn.rms_norm(x, epsilon=self.eps, weight=self.weight.get_device_weight(), compute_kernel_config=kernel)

    def forward(self, x, mode):
        return self.decode_forward(x) if mode == "decode" else self.prefill_forward(x)


class MLP1D(LightweightModule):
    def __init__(self, w1, w2, w3):
        self.w1, self.w2, self.w3 = w1, w2, w3

    def prefill_forward(self, x):
        gate = ttnn.linear(x, self.w1.get_device_weight(), compute_kernel_config=compute_kernel())
        up = ttnn.linear(x, self.w3.get_device_weight(), compute_kernel_config=compute_kernel())
        ttnn.deallocate(x)
        both = ttnn.multiply(gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])
        ttnn.deallocate(gate)
        ttnn.deallocate(up)
        out = ttnn.linear(both, self.w2.get_device_weight(), compute_kernel_config=compute_kernel())
        ttnn.deallocate(both)
        return out

    decode_forward = prefill_forward

    def forward(self, x, mode):
        return self.decode_forward(x) if mode == "decode" else self.prefill_forward(x)


@dataclass
class Attention1DConfig:
    wqkv: torch.Tensor
    wo: torch.Tensor
    n_heads: int
    n_kv_heads: int
    head_dim: int
    cache_blocks: int
    device: object


class Attention1D(LightweightModule):
    @classmethod
    def from_config(cls, config):
        made = object.__new__(cls)
        made.config, made.is_causal, made._loaded = config, True, False
        return made

    def load_device_weights(self):
        if self._loaded:
            return
        config = self.config
        shape = (config.cache_blocks, config.n_kv_heads, BLOCK, config.head_dim)
        self.keys, self.values = (
            ttnn.zeros(shape, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=config.device) for _ in range(2)
        )
        self.wqkv, self.wo = (
            LazyWeight(source, config.device).get_device_weight() for source in (config.wqkv, config.wo)
        )
        self._loaded = True

    def prefill_forward(self, x, rot_mats, user_id=0, page_table=None, chunk_start_idx=None, batch_size=1):
        if batch_size == 1:
            return self._one_prompt(x, rot_mats, user_id, page_table)
        width, length = x.shape[-1], x.shape[-2] // batch_size
        prompts = [ttnn.slice(x, [0, 0, i * length, 0], [1, 1, (i + 1) * length, width]) for i in range(batch_size)]
        ttnn.deallocate(x)
        mixed = [self._one_prompt(prompt, rot_mats, user_id + i, page_table) for i, prompt in enumerate(prompts)]
        return ttnn.concat(mixed, dim=2)

    def _one_prompt(self, x, rot_mats, user_id, page_table):
        self.load_device_weights()
        config, kernel = self.config, compute_kernel()
        qkv = ttnn.linear(x, self.wqkv, compute_kernel_config=kernel)
        ttnn.deallocate(x)
        q, k, v = ttnn.experimental.nlp_create_qkv_heads(
            qkv, num_heads=config.n_heads, num_kv_heads=config.n_kv_heads, transpose_k_heads=False
        )
        ttnn.deallocate(qkv)
        q, k = (ttnn.experimental.rotary_embedding_llama(heads, *rot_mats, is_decode_mode=False) for heads in (q, k))
        ttnn.experimental.paged_fill_cache(self.keys, k, page_table, batch_idx=user_id)
        ttnn.experimental.paged_fill_cache(self.values, v, page_table, batch_idx=user_id)
        mixed = ttnn.transformer.scaled_dot_product_attention(
            q, k, v, is_causal=self.is_causal, compute_kernel_config=kernel
        )
        return ttnn.linear(ttnn.experimental.nlp_concat_heads(mixed), self.wo, compute_kernel_config=kernel)

    def decode_forward(self, x, current_pos, rot_mats, page_table=None):
        self.load_device_weights()
        config, kernel = self.config, compute_kernel()
        qkv = ttnn.linear(x, self.wqkv, compute_kernel_config=kernel)
        ttnn.deallocate(x)
        q, k, v = ttnn.experimental.nlp_create_qkv_heads_decode(
            qkv,
            num_heads=config.n_heads,
            num_kv_heads=config.n_kv_heads,
            memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG,
        )
        q, k = (ttnn.experimental.rotary_embedding_llama(heads, *rot_mats, is_decode_mode=True) for heads in (q, k))
        for cache, fresh in ((self.keys, k), (self.values, v)):
            ttnn.experimental.paged_update_cache(cache, fresh, update_idxs_tensor=current_pos, page_table=page_table)
        mixed = ttnn.transformer.paged_scaled_dot_product_attention_decode(
            q, self.keys, self.values, page_table, cur_pos_tensor=current_pos, compute_kernel_config=kernel
        )
        mixed = ttnn.to_memory_config(mixed, one_user_a_core(config.device, (TILE, config.head_dim)))
        joined = ttnn.experimental.nlp_concat_heads_decode(mixed, num_heads=config.n_heads)
        joined = ttnn.to_memory_config(joined, ttnn.DRAM_MEMORY_CONFIG)
        return ttnn.linear(joined, self.wo, compute_kernel_config=kernel)

    def forward(self, x, current_pos, rot_mats, user_id=0, mode="decode", page_table=None):
        if mode == "prefill":
            return self.prefill_forward(x, rot_mats, user_id=user_id, page_table=page_table)
        return self.decode_forward(x, current_pos, rot_mats, page_table=page_table)


class Embedding1D(LightweightModule):
    def __init__(self, weights, device):
        self.weights = ttnn.as_tensor(
            weights,
            dtype=ttnn.bfloat16,
            layout=ttnn.ROW_MAJOR_LAYOUT,
            device=device,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )

    def forward(self, ids):
        return ttnn.unsqueeze_to_4D(ttnn.embedding(ids, self.weights, layout=ttnn.TILE_LAYOUT, dtype=ttnn.bfloat16))


class LMHead1D(LightweightModule):
    def __init__(self, output_weights):
        self.output_weights = output_weights

    def forward(self, x):
        parts = [
            ttnn.linear(x, weight.get_device_weight(), compute_kernel_config=compute_kernel())
            for weight in self.output_weights
        ]
        ttnn.deallocate(x)
        return ttnn.concat(parts, dim=-1)


class RotarySetup1D(LightweightModule):
    """Tables in Meta's layout: each angle twice, side by side."""

    def __init__(self, head_dim, theta, positions, device):
        self.device = device
        frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)
        angles = torch.outer(torch.arange(positions).float(), frequencies).repeat_interleave(2, -1)
        self.cos, self.sin = angles.cos(), angles.sin()
        self.turn = torch.block_diag(*[torch.tensor([[0.0, 1.0], [-1.0, 0.0]])] * (TILE // 2))

    def prefill_forward(self, start_pos, seq_len):
        rows = slice(start_pos, start_pos + seq_len)
        return [
            self._place(table)
            for table in (self.cos[rows][None, None], self.sin[rows][None, None], self.turn[None, None])
        ]

    def decode_forward(self, rot_idxs):
        cos, sin = (table[rot_idxs][None, :, None] for table in (self.cos, self.sin))
        memory = one_user_a_core(self.device, (TILE, cos.shape[-1]))
        turn = self.turn.repeat(USERS, 1)[None, None]
        return [
            *(self._place(table, memory) for table in (cos, sin)),
            self._place(turn, one_user_a_core(self.device, (TILE, TILE))),
        ]

    def _place(self, table, memory_config=None):
        return ttnn.from_torch(
            table, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=self.device, memory_config=memory_config
        )


class TransformerBlock1D(LightweightModule):
    def __init__(self, attention_norm, attention, ff_norm, feed_forward):
        self.attention_norm, self.attention = attention_norm, attention
        self.ff_norm, self.feed_forward = ff_norm, feed_forward

    def prefill_forward(self, x, rot_mats, user_id=0, page_table=None, batch_size=1):
        mixed = self.attention.prefill_forward(
            self.attention_norm.prefill_forward(x),
            rot_mats,
            user_id=user_id,
            page_table=page_table,
            batch_size=batch_size,
        )
        h = ttnn.add(x, mixed)
        ttnn.deallocate(x)
        out = ttnn.add(h, self.feed_forward.prefill_forward(self.ff_norm.prefill_forward(h)))
        ttnn.deallocate(h)
        return out

    def decode_forward(self, x, current_pos, rot_mats, page_table=None):
        mixed = self.attention.decode_forward(
            self.attention_norm.decode_forward(x), current_pos, rot_mats, page_table=page_table
        )
        h = ttnn.add(x, mixed)
        ttnn.deallocate(x)
        out = ttnn.add(h, self.feed_forward.decode_forward(self.ff_norm.decode_forward(h)))
        ttnn.deallocate(h)
        return out


class Llama3Transformer1D(LightweightModule):
    def __init__(self, embedding, rope_setup, layers, norm, lm_head):
        self.embedding, self.rope_setup, self.layers = embedding, rope_setup, layers
        self.norm, self.lm_head = norm, lm_head

    def prefill_forward(self, x_embed, rot_mats, user_id=0, page_table=None, get_last_token=-1, batch_size=1):
        x = x_embed
        for layer in self.layers:
            x = layer.prefill_forward(x, rot_mats, user_id=user_id, page_table=page_table, batch_size=batch_size)
        if get_last_token >= 0:
            first = get_last_token // TILE * TILE
            x = ttnn.slice(x, [0, 0, first, 0], [1, 1, first + TILE, x.shape[-1]])
        return self.lm_head.forward(self.norm.prefill_forward(x))

    def decode_forward(self, x_embed, current_pos, rot_mats, page_table=None):
        x = x_embed
        for layer in self.layers:
            x = layer.decode_forward(x, current_pos, rot_mats, page_table=page_table)
        return self.lm_head.forward(self.norm.decode_forward(x))


def one_user_a_core(device, shard):
    return ttnn.create_sharded_memory_config(
        shape=shard,
        core_grid=ttnn.num_cores_to_corerangeset(USERS, device.compute_with_storage_grid_size(), True),
        strategy=ttnn.ShardStrategy.HEIGHT,
        orientation=ttnn.ShardOrientation.ROW_MAJOR,
        use_height_and_width_as_shard_shape=True,
    )


def meta_order(rows, heads):
    """Rows of a q or k projection from Hugging Face's halves to Meta's neighbours."""
    return rows.view(heads, 2, rows.shape[0] // heads // 2, -1).transpose(1, 2).reshape(rows.shape)


def attention_of(state, layer, config, device, pages):
    heads, kv_heads, prefix = config.num_attention_heads, config.num_key_value_heads, f"model.layers.{layer}.self_attn"
    q, k, v, o = (state[f"{prefix}.{part}_proj.weight"] for part in "qkvo")
    wqkv = torch.cat([meta_order(q, heads), meta_order(k, kv_heads), v]).T.contiguous()
    return Attention1D.from_config(
        Attention1DConfig(wqkv, o.T.contiguous(), heads, kv_heads, config.head_dim, USERS * pages, device)
    )


def linear_weight(state, name, device, dtype=None):
    return LazyWeight(state[name].T.contiguous(), device, dtype)


def norm_of(state, name, config, device):
    return RMSNorm1D(LazyWeight(state[name].reshape(1, 1, 1, -1), device), config.rms_norm_eps)


def rotary_of(config, device):
    theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    return RotarySetup1D(config.head_dim, theta, config.max_position_embeddings, device)


def head_of(state, device, parts=2):
    """The head's columns in chunks, as it is cut where one device cannot hold it."""
    return LMHead1D([LazyWeight(part.T.contiguous(), device) for part in state["lm_head.weight"].chunk(parts)])


def build(reference_model, device):
    config, state = reference_model.config, reference_model.state_dict()
    pages = math.ceil(config.max_position_embeddings / BLOCK)
    layers = []
    for i in range(config.num_hidden_layers):
        here = f"model.layers.{i}"
        gate, down, up = (
            linear_weight(state, f"{here}.mlp.{part}_proj.weight", device, ttnn.bfloat8_b)
            for part in ("gate", "down", "up")
        )
        layers.append(
            TransformerBlock1D(
                attention_norm=norm_of(state, f"{here}.input_layernorm.weight", config, device),
                attention=attention_of(state, i, config, device, pages),
                ff_norm=norm_of(state, f"{here}.post_attention_layernorm.weight", config, device),
                feed_forward=MLP1D(gate, down, up),
            )
        )
    return Llama3Transformer1D(
        Embedding1D(state["model.embed_tokens.weight"], device),
        rotary_of(config, device),
        layers,
        norm_of(state, "model.norm.weight", config, device),
        head_of(state, device),
    )
