# SPDX-License-Identifier: Apache-2.0
"""The same small Llama under the other names that TT-Transformers models use, of objects that are harder to listen to.

Norms are only ever called, feed-forwards are frozen and without a dictionary, and one rope setup is shared by all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import ttnn
from ttt_llama import (
    BLOCK,
    PREFILL_MULTIPLE,
    USERS,
    Embedding1D,
    LazyWeight,
    attention_of,
    compute_kernel,
    head_of,
    linear_weight,
    rotary_of,
)


@dataclass(frozen=True)
class Norm:
    gain: LazyWeight
    eps: float

    def __call__(self, x):
        return ttnn.rms_norm(x, epsilon=self.eps, weight=self.gain.get_device_weight())


@dataclass(frozen=True, slots=True)
class FeedForward:
    gate: LazyWeight
    up: LazyWeight
    down: LazyWeight

    def forward(self, x):
        kernel = compute_kernel()
        gate, up = (
            ttnn.linear(x, part.get_device_weight(), compute_kernel_config=kernel) for part in (self.gate, self.up)
        )
        both = ttnn.multiply(gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])
        return ttnn.linear(both, self.down.get_device_weight(), compute_kernel_config=kernel)


class DecoderLayer:
    def __init__(self, input_layernorm, self_attn, post_attention_layernorm, mlp):
        self.input_layernorm, self.self_attn = input_layernorm, self_attn
        self.post_attention_layernorm, self.mlp = post_attention_layernorm, mlp

    def forward(self, x, mode, rot_mats, current_pos=None, user_id=0, page_table=None):
        mixed = self.self_attn.forward(
            self.input_layernorm(x), current_pos, rot_mats, user_id=user_id, mode=mode, page_table=page_table
        )
        h = ttnn.add(x, mixed)
        ttnn.deallocate(x)
        return ttnn.add(h, self.mlp.forward(self.post_attention_layernorm(h)))


class Model:
    def __init__(self, device, config, state):
        self.mesh_device, self.pages = device, math.ceil(config.max_position_embeddings / BLOCK)
        self.embed_tokens = Embedding1D(state["model.embed_tokens.weight"], device)
        self.rotary_emb = rotary_of(config, device)
        self.layers = [self._layer(state, i, config) for i in range(config.num_hidden_layers)]
        self.norm = self._norm(state, "model.norm.weight", config)
        self.lm_head = head_of(state, device, parts=1)

    def _norm(self, state, name, config):
        return Norm(LazyWeight(state[name].reshape(1, 1, 1, -1), self.mesh_device), config.rms_norm_eps)

    def _layer(self, state, i, config):
        here, device = f"model.layers.{i}", self.mesh_device
        return DecoderLayer(
            self._norm(state, f"{here}.input_layernorm.weight", config),
            attention_of(state, i, config, device, self.pages),
            self._norm(state, f"{here}.post_attention_layernorm.weight", config),
            FeedForward(
                *(linear_weight(state, f"{here}.mlp.{part}_proj.weight", device) for part in ("gate", "up", "down"))
            ),
        )

    def prefill(self, token_ids_BS):
        """Logits of every row of every prompt's padding too, each prompt in the slot of its row."""
        (ids,) = token_ids_BS
        length = math.ceil(len(ids) / PREFILL_MULTIPLE) * PREFILL_MULTIPLE
        padded = torch.nn.functional.pad(ids, (0, length - len(ids)))
        return self._run(padded, "prefill", self.rotary_emb.prefill_forward(0, length))

    def decode(self, token_ids_B, positions_B):
        padding = USERS - len(token_ids_B)
        positions = torch.nn.functional.pad(positions_B, (0, padding), value=-1)
        return self._run(
            torch.nn.functional.pad(token_ids_B, (0, padding)),
            "decode",
            self.rotary_emb.decode_forward(positions.clamp(min=0)),
            current_pos=self._integers(positions, ttnn.int32),
        )

    def _run(self, ids, mode, rot_mats, current_pos=None):
        x = self.embed_tokens(self._integers(ids[None], ttnn.uint32))
        page_table = self._integers(torch.arange(USERS * self.pages).flip(0).reshape(USERS, -1), ttnn.int32)
        for layer in self.layers:
            x = layer.forward(x, mode, rot_mats, current_pos=current_pos, page_table=page_table)
        return ttnn.to_torch(self.lm_head(self.norm(x)))

    def _integers(self, values, dtype):
        return ttnn.from_torch(
            values.to(torch.int32), dtype=dtype, layout=ttnn.ROW_MAJOR_LAYOUT, device=self.mesh_device
        )


def build(reference_model, device):
    return Model(device, reference_model.config, reference_model.state_dict())
