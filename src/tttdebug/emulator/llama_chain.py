# SPDX-License-Identifier: Apache-2.0
"""A whole Llama as it was recorded on the real ttnn: batch 1, bfloat16 activations, interleaved in DRAM.

One prefill, written against the emulated namespace, that shows every boundary to its caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tttdebug.emulator import ttnn
from tttdebug.emulator.device import Device
from tttdebug.emulator.ops import attention as attention_ops
from tttdebug.emulator.ops import heads as heads_ops
from tttdebug.emulator.ops import rotary

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

# S positions, D hidden, H query heads, K key/value heads, E head dim

Config = ttnn.WormholeComputeKernelConfig
FIDELITY = ttnn.MathFidelity
LOFI = Config(math_fidelity=FIDELITY.LoFi, math_approx_mode=False, packer_l1_acc=True)
HIFI2 = Config(math_fidelity=FIDELITY.HiFi2, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True)
HIFI2_FP16 = Config(math_fidelity=FIDELITY.HiFi2, math_approx_mode=False, packer_l1_acc=True)
HIFI4 = Config(math_fidelity=FIDELITY.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True)
SDPA = Config(math_fidelity=FIDELITY.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True)


@dataclass(frozen=True)
class Precision:
    """Data type and kernel of attention weights, of w1 and w3, of w2 and of the LM head; the norms' kernel."""

    attention: tuple[ttnn.DataType, Config]
    gate_up: tuple[ttnn.DataType, Config]
    down: tuple[ttnn.DataType, Config]
    lm_head: tuple[ttnn.DataType, Config]
    norms: Config


_BF16, _BFP8, _BFP4 = ttnn.bfloat16, ttnn.bfloat8_b, ttnn.bfloat4_b
PRECISIONS = {
    "bf16": Precision((_BF16, HIFI4), (_BF16, HIFI4), (_BF16, HIFI4), (_BF16, HIFI4), HIFI4),
    "accuracy": Precision((_BFP8, HIFI2), (_BFP8, HIFI2_FP16), (_BFP8, HIFI2_FP16), (_BFP8, HIFI2), HIFI2),
    "performance": Precision((_BFP8, HIFI2), (_BFP4, LOFI), (_BFP8, HIFI2_FP16), (_BFP8, HIFI2), HIFI2),
}


def _keep_nothing(name: str, x: ttnn.Tensor) -> None:
    """What `prefill` does with a boundary when nobody wants it."""


class LlamaChain:
    """The recorded chain on a device, its weights uploaded once; no program config but for attention."""

    def __init__(
        self, model: LlamaForCausalLM, device: Device, precision: Precision, layers: int | None = None
    ) -> None:
        self.config: Any = model.config
        self.device, self.precision = device, precision
        self.head_dim: int = self.config.hidden_size // self.config.num_attention_heads
        weights = {name: value.detach() for name, value in model.state_dict().items()}
        self.embedding = self._upload(weights["model.embed_tokens.weight"], layout=ttnn.ROW_MAJOR_LAYOUT)
        self.lm_head = self._upload(weights["lm_head.weight"].T, precision.lm_head[0])
        self.final_norm = self._upload(weights["model.norm.weight"][None])
        count = self.config.num_hidden_layers if layers is None else layers
        self.layers = [self._layer(weights, f"model.layers.{i}.") for i in range(count)]
        self.transform = self._upload(pair_swap()[None, None])
        self.sdpa = ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=device.grid, q_chunk_size=32, k_chunk_size=32, exp_approx_mode=False
        )

    def _layer(self, weights: dict[str, Tensor], prefix: str) -> dict[str, ttnn.Tensor]:
        precision = self.precision
        q, k, v, o = (weights[f"{prefix}self_attn.{name}_proj.weight"] for name in "qkvo")
        w1, w2, w3 = (weights[f"{prefix}mlp.{name}_proj.weight"] for name in ("gate", "down", "up"))
        fused = torch.cat([interleaved(q, self.head_dim), interleaved(k, self.head_dim), v])
        return {
            "input_norm": self._upload(weights[f"{prefix}input_layernorm.weight"][None]),
            "post_attn_norm": self._upload(weights[f"{prefix}post_attention_layernorm.weight"][None]),
            "wqkv": self._upload(fused.T, precision.attention[0]),
            "wo": self._upload(o.T, precision.attention[0]),
            "w1": self._upload(w1.T, precision.gate_up[0]),
            "w3": self._upload(w3.T, precision.gate_up[0]),
            "w2": self._upload(w2.T, precision.down[0]),
        }

    def _upload(
        self, x: Tensor, dtype: ttnn.DataType = ttnn.bfloat16, layout: ttnn.Layout = ttnn.TILE_LAYOUT
    ) -> ttnn.Tensor:
        return ttnn.from_torch(x, dtype=dtype, layout=layout, device=self.device)

    def prefill(self, ids: list[int], keep: Callable[[str, ttnn.Tensor], None] = _keep_nothing) -> ttnn.Tensor:
        """Logits [1, 1, S, vocabulary]; `keep` is called with every boundary."""
        precision, eps = self.precision, self.config.rms_norm_eps
        cos, sin = (self._upload(t[None, None]) for t in rotary_tables(len(ids), self.head_dim, self.config))
        tokens = self._upload(torch.tensor([ids]), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT)
        x = ttnn.to_layout(ttnn.embedding(tokens, self.embedding), ttnn.TILE_LAYOUT)
        x = ttnn.unsqueeze_to_4D(x)
        keep("embed", x)

        def norm(x: ttnn.Tensor, weight: ttnn.Tensor) -> ttnn.Tensor:
            return ttnn.rms_norm(x, epsilon=eps, weight=weight, compute_kernel_config=precision.norms)

        for i, layer in enumerate(self.layers):
            at = f"L{i:02d}."
            h = norm(x, layer["input_norm"])
            keep(at + "input_norm", h)
            qkv = ttnn.linear(h, layer["wqkv"], compute_kernel_config=precision.attention[1])
            keep(at + "qkv", qkv)
            q, k, v = heads_ops.nlp_create_qkv_heads(
                qkv,
                num_heads=self.config.num_attention_heads,
                num_kv_heads=self.config.num_key_value_heads,
                transpose_k_heads=False,
            )
            q, k = (rotary.rotary_embedding_llama(t, cos, sin, self.transform) for t in (q, k))
            heads = attention_ops.scaled_dot_product_attention(
                q, k, v, is_causal=True, program_config=self.sdpa, compute_kernel_config=SDPA
            )
            heads = heads_ops.nlp_concat_heads(heads)
            keep(at + "heads", heads)
            attention = ttnn.linear(heads, layer["wo"], compute_kernel_config=precision.attention[1])
            keep(at + "self_attn", attention)
            x = ttnn.add(x, attention)
            h = norm(x, layer["post_attn_norm"])
            keep(at + "post_attn_norm", h)
            gate, up = (ttnn.linear(h, layer[w], compute_kernel_config=precision.gate_up[1]) for w in ("w1", "w3"))
            gated = ttnn.multiply(gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])
            keep(at + "gated", gated)
            mlp = ttnn.linear(gated, layer["w2"], compute_kernel_config=precision.down[1])
            keep(at + "mlp", mlp)
            x = ttnn.add(x, mlp)
            keep(at + "layer_out", x)
        h = norm(x, self.final_norm)
        keep("final_norm", h)
        logits = ttnn.linear(h, self.lm_head, compute_kernel_config=precision.lm_head[1])
        keep("logits", logits)
        return logits


def interleaved(rows: Tensor, head_dim: int) -> Tensor:
    """Rows of a query or key projection from halves (Hugging Face) to adjacent pairs (Meta)."""
    return rows.view(-1, 2, head_dim // 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)


def pair_swap() -> Tensor:
    """The 32×32 matrix that turns (a, b) into (−b, a) within adjacent pairs."""
    transform = torch.zeros(32, 32)
    transform[torch.arange(0, 32, 2), torch.arange(1, 32, 2)] = 1
    transform[torch.arange(1, 32, 2), torch.arange(0, 32, 2)] = -1
    return transform


def rotary_tables(length: int, head_dim: int, config: Any) -> tuple[Tensor, Tensor]:
    """Cosines and sines [S, E], each twice in a row."""
    theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    frequencies = 1 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)
    angles_SE = torch.outer(torch.arange(length).float(), frequencies).repeat_interleave(2, 1)
    return angles_SE.cos(), angles_SE.sin()
