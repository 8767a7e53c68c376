# SPDX-License-Identifier: Apache-2.0
"""Causal self-attention, grouped or not, with rotary positions or none, and a key/value cache.

B users, S sequence, D hidden, H query heads, K key/value heads, E head dimension, N width of the fused projection.
"""

from __future__ import annotations

from typing import Any

from tttdebug.errors import SpecError
from tttdebug.modules.attention_programs import choose_prompt_attention, choose_step_attention
from tttdebug.modules.attention_projections import AttentionProjections
from tttdebug.modules.kv_cache import KVCache
from tttdebug.modules.positions import PromptPositions, StepPositions, whole_tiles
from tttdebug.modules.rms_norm import HeadNorm
from tttdebug.modules.rotary_embedding import RotaryEmbedding, height_sharded, refused_by_rotary_embedding
from tttdebug.specs import AttentionSpec


class MultiHeadAttention(AttentionProjections):
    """Hidden states to hidden states by ttnn's fused attention, which never keeps the scores.

    Weights: those of AttentionProjections, and `q_norm.weight` and `k_norm.weight` [E] where the spec has a `qk_norm`;
    drawn at random from `seed` when none are given.
    Keys in the cache are in interleaved rotary order. Called like a function it computes a prompt without a cache.
    """

    def __init__(self, *args: Any, rotary: RotaryEmbedding | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rotary = rotary
        if rotary is None and self.spec.rope is not None:
            self.rotary = RotaryEmbedding(self.spec, self.device)
        self.q_norm = self._head_norm("q_norm")
        self.k_norm = self._head_norm("k_norm")
        self.cache: KVCache | None = None

    @staticmethod
    def not_computed(spec: AttentionSpec) -> dict[str, bool]:
        return refused_by_rotary_embedding(spec) | {
            "causal=False (EncoderAttention does)": not spec.causal,
            "logit_softcap (SoftcappedAttention does)": spec.logit_softcap is not None,
        }

    def _head_norm(self, name: str) -> HeadNorm | None:
        spec = self.spec
        if spec.qk_norm is None:
            return None
        here = (self.weights_of(name), self.device, self.hw_config)
        return HeadNorm(spec.qk_norm, *here, rotary_dim=spec.rotary_dim)

    def allocate_cache(self, users: int, length: int) -> None:
        """A fresh, empty cache for `users` users and `length` positions each."""
        spec = self.spec
        self.cache = KVCache(
            self.ttnn, self.device, self.hw_config.kv_cache, users, spec.num_kv_heads, length, self.head_dim
        )

    def forward(self, x_11SD: Any) -> Any:
        """A whole prompt [1, 1, S, D] from position 0 on; S is a multiple of 32. No cache is read or written."""
        return self._prompt(x_11SD, PromptPositions(self.device, x_11SD.shape[-2]), None, 0)

    def prefill_forward(self, x_11SD: Any, positions: PromptPositions, user: int = 0) -> Any:
        """A whole prompt of one user; its keys and values go into the cache, when there is one."""
        return self._prompt(x_11SD, positions, self.cache, user)

    def decode_forward(self, x_11BD: Any, positions: StepPositions) -> Any:
        """One token of each user; rows beyond the users of the cache are padding and come back as such."""
        if self.cache is None:
            raise SpecError("decode needs a key/value cache: call allocate_cache and prefill_forward first")
        ttnn, users = self.ttnn, positions.users
        qkv_11BN = self.project(x_11BD, "li_qkv_decode")
        qkv_11BN = ttnn.slice(qkv_11BN, [0, 0, 0, 0], [1, 1, users, qkv_11BN.shape[-1]])
        q_1BHE, k_1BKE, v_1BKE = ttnn.experimental.nlp_create_qkv_heads_decode(
            qkv_11BN,
            num_heads=self.spec.num_heads,
            num_kv_heads=self.spec.num_kv_heads,
            memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG,
        )
        if self.q_norm is not None and self.k_norm is not None:
            q_1BHE, k_1BKE = self.q_norm.decode_forward(q_1BHE), self.k_norm.decode_forward(k_1BKE)
        if self.rotary is not None:
            tables = positions.tables(self.rotary)
            q_1BHE, k_1BKE = self.rotary.decode_forward(q_1BHE, tables), self.rotary.decode_forward(k_1BKE, tables)
        self.cache.update(k_1BKE, v_1BKE, positions.on_device)
        heads_1BHE = self.attend_step(q_1BHE, self.cache, positions)
        shard = (whole_tiles(self.spec.num_heads), self.head_dim)
        heads_1BHE = ttnn.to_memory_config(heads_1BHE, height_sharded(ttnn, self.device, users, shard))
        joined_11BN = ttnn.experimental.nlp_concat_heads_decode(heads_1BHE, num_heads=self.spec.num_heads)
        # a head a core, which would bind the product's blocks to the heads' width
        return self.output(ttnn.to_memory_config(joined_11BN, ttnn.DRAM_MEMORY_CONFIG), "li_o_decode")

    def attend_prompt(self, q_1HSE: Any, k_1KSE: Any, v_1KSE: Any, positions: PromptPositions) -> Any:
        """Every query's mixture of the values it sees, [1, H, S, E]."""
        return self.ttnn.transformer.scaled_dot_product_attention(
            q_1HSE,
            k_1KSE,
            v_1KSE,
            is_causal=True,
            scale=self.spec.softmax_scale,
            sliding_window_size=self.spec.sliding_window,
            program_config=choose_prompt_attention(q_1HSE.shape[-2], self.head_dim, self.grid).to_ttnn(self.ttnn),
            compute_kernel_config=self.kernels["sdpa_prefill"],
        )

    def attend_step(self, q_1BHE: Any, cache: KVCache, positions: StepPositions) -> Any:
        """The same for one query a user, [1, B, H, E], against the cache."""
        return self.ttnn.transformer.scaled_dot_product_attention_decode(
            q_1BHE,
            cache.keys,
            cache.values,
            cur_pos_tensor=positions.on_device,
            scale=self.spec.softmax_scale,
            sliding_window_size=self.spec.sliding_window,
            program_config=choose_step_attention(self.grid).to_ttnn(self.ttnn),
            compute_kernel_config=self.kernels["sdpa_decode"],
        )

    def _prompt(self, x_11SD: Any, positions: PromptPositions, cache: KVCache | None, user: int) -> Any:
        q_1HSE, k_1KSE, v_1KSE = self.heads(x_11SD)
        if self.q_norm is not None and self.k_norm is not None:
            q_1HSE, k_1KSE = self.q_norm(q_1HSE), self.k_norm(k_1KSE)
        if self.rotary is not None:
            tables = positions.tables(self.rotary)
            q_1HSE, k_1KSE = self.rotary.prefill_forward(q_1HSE, tables), self.rotary.prefill_forward(k_1KSE, tables)
        if cache is not None:
            cache.fill(k_1KSE, v_1KSE, user)
        heads_1HSE = self.attend_prompt(q_1HSE, k_1KSE, v_1KSE, positions)
        return self.output(self.ttnn.experimental.nlp_concat_heads(heads_1HSE))
