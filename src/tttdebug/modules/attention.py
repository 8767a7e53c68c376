# SPDX-License-Identifier: Apache-2.0
"""Causal self-attention with rotary positions, grouped or not, and a key/value cache.

B users, S sequence, D hidden, H query heads, K key/value heads, E head dimension, N width of the fused projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tttdebug.errors import SpecError
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.kv_cache import KVCache
from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, RotaryLinear, WeightFormat
from tttdebug.modules.rotary_embedding import TILE, RotaryEmbedding, height_sharded

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import AttentionSpec


class MultiHeadAttention(TTModule["AttentionSpec"]):
    """Hidden states to hidden states. Weights: `wq` [H·E, D], `wk` and `wv` [K·E, D], `wo` [D, H·E].

    The hardware config decides whether the three projections are one matmul (`fuse_qkv`) or three. Query and key rows
    go to interleaved rotary order, so keys in the cache are in that order too.
    """

    def __init__(
        self,
        spec: AttentionSpec,
        weights: Mapping[str, torch.Tensor],
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
        rotary: RotaryEmbedding | None = None,
    ) -> None:
        super().__init__(spec, weights, device, hw_config)
        _refuse_what_is_not_computed_here(spec)
        self.rotary = rotary or RotaryEmbedding(spec, self.device)
        rotary_layout = RotaryLinear(spec.head_dim)
        dtype, fidelity = self.hw_config.wqkv, self.hw_config.li_qkv.math_fidelity
        projections = {
            "wq": WeightFormat(rotary_layout, dtype, fidelity),
            "wk": WeightFormat(rotary_layout, dtype, fidelity),
            "wv": WeightFormat(Linear(), dtype, fidelity),
        }
        if self.hw_config.fuse_qkv:
            self.wqkv = [self.place_fused(projections)]
        else:
            self.wqkv = [self.place(name, weight_format) for name, weight_format in projections.items()]
        self.wo = self.place("wo", WeightFormat(Linear(), self.hw_config.wo, self.hw_config.li_o.math_fidelity))
        self.kernels = {
            name: getattr(self.hw_config, name).to_ttnn(self.ttnn)
            for name in ("li_qkv", "li_o", "sdpa_prefill", "sdpa_decode")
        }
        self.cache: KVCache | None = None

    def allocate_cache(self, users: int, length: int) -> None:
        """A fresh, empty cache for `users` users and `length` positions each."""
        spec = self.spec
        self.cache = KVCache(
            self.ttnn, self.device, self.hw_config.kv_cache, users, spec.num_kv_heads, length, spec.head_dim
        )

    def prefill_forward(self, x_11SD: Any, tables: tuple[Any, Any], user: int = 0) -> Any:
        """A whole prompt of one user; its keys and values go into the cache, when there is one."""
        ttnn = self.ttnn
        q_1HSE, k_1KSE, v_1KSE = ttnn.experimental.nlp_create_qkv_heads(
            self._project(x_11SD),
            num_heads=self.spec.num_heads,
            num_kv_heads=self.spec.num_kv_heads,
            transpose_k_heads=False,
        )
        q_1HSE = self.rotary.prefill_forward(q_1HSE, tables)
        k_1KSE = self.rotary.prefill_forward(k_1KSE, tables)
        if self.cache is not None:
            self.cache.fill(k_1KSE, v_1KSE, user)
        heads_1HSE = ttnn.transformer.scaled_dot_product_attention(
            q_1HSE,
            k_1KSE,
            v_1KSE,
            is_causal=True,
            scale=self.spec.softmax_scale,
            program_config=self._sdpa_program(chunk=TILE),
            compute_kernel_config=self.kernels["sdpa_prefill"],
        )
        return self._output(ttnn.experimental.nlp_concat_heads(heads_1HSE))

    def decode_forward(self, x_11BD: Any, tables: tuple[Any, Any], positions_B: Any) -> Any:
        """One token of each user; rows beyond the users of the cache are padding and come back as such."""
        if self.cache is None:
            raise SpecError("decode needs a key/value cache: call allocate_cache and prefill_forward first")
        ttnn, users = self.ttnn, positions_B.shape[0]
        qkv_11BN = self._project(x_11BD)
        qkv_11BN = ttnn.slice(qkv_11BN, [0, 0, 0, 0], [1, 1, users, qkv_11BN.shape[-1]])
        q_1BHE, k_1BKE, v_1BKE = ttnn.experimental.nlp_create_qkv_heads_decode(
            qkv_11BN,
            num_heads=self.spec.num_heads,
            num_kv_heads=self.spec.num_kv_heads,
            memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG,
        )
        q_1BHE = self.rotary.decode_forward(q_1BHE, tables)
        k_1BKE = self.rotary.decode_forward(k_1BKE, tables)
        self.cache.update(k_1BKE, v_1BKE, positions_B)
        heads_1BHE = ttnn.transformer.scaled_dot_product_attention_decode(
            q_1BHE,
            self.cache.keys,
            self.cache.values,
            cur_pos_tensor=positions_B,
            scale=self.spec.softmax_scale,
            program_config=self._sdpa_program(chunk=0),
            compute_kernel_config=self.kernels["sdpa_decode"],
        )
        padded_heads = -(-self.spec.num_heads // TILE) * TILE
        heads_1BHE = ttnn.to_memory_config(
            heads_1BHE, height_sharded(ttnn, self.device, users, (padded_heads, self.spec.head_dim))
        )
        return self._output(ttnn.experimental.nlp_concat_heads_decode(heads_1BHE, num_heads=self.spec.num_heads))

    def _project(self, x_11SD: Any) -> Any:
        parts = [self.ttnn.linear(x_11SD, weight, compute_kernel_config=self.kernels["li_qkv"]) for weight in self.wqkv]
        return parts[0] if len(parts) == 1 else self.ttnn.concat(parts, dim=-1)

    def _output(self, heads_11SN: Any) -> Any:
        return self.ttnn.linear(heads_11SN, self.wo, compute_kernel_config=self.kernels["li_o"])

    def _sdpa_program(self, chunk: int) -> Any:
        grid = self.device.compute_with_storage_grid_size()
        return self.ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=(grid.x, grid.y),
            q_chunk_size=chunk,
            k_chunk_size=chunk,
            exp_approx_mode=False,
        )


def _refuse_what_is_not_computed_here(spec: AttentionSpec) -> None:
    """Raise SpecError, rather than compute something else, for a feature that this module does not have."""
    absent = {
        "rope=None": spec.rope is None,
        "causal=False": not spec.causal,
        "qkv_bias": spec.qkv_bias,
        "output_bias": spec.output_bias,
        "qk_norm": spec.qk_norm is not None,
        "sliding_window": spec.sliding_window is not None,
        "logit_softcap": spec.logit_softcap is not None,
    }
    asked = [feature for feature, wanted in absent.items() if wanted]
    if asked:
        raise SpecError(f"MultiHeadAttention does not compute {', '.join(asked)} yet; the spec asks for it")
