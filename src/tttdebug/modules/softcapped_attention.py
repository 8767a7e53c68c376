# SPDX-License-Identifier: Apache-2.0
"""Causal self-attention whose scores are capped softly, as Gemma 2's are: step by step, for the fused op has no cap.

B users, S queries, T keys, H query heads, K key/value heads, G query heads that share one, E head dimension.
"""

from __future__ import annotations

from typing import Any

from tttdebug.modules.attention import MultiHeadAttention
from tttdebug.modules.kv_cache import KVCache
from tttdebug.modules.positions import PromptPositions, StepPositions
from tttdebug.modules.rotary_embedding import refused_by_rotary_embedding
from tttdebug.specs import AttentionSpec


class SoftcappedAttention(MultiHeadAttention):
    """MultiHeadAttention with scores s as cap · tanh(s / cap). The scores lie in memory, which is not `flash`."""

    @staticmethod
    def not_computed(spec: AttentionSpec) -> dict[str, bool]:
        return refused_by_rotary_embedding(spec) | {
            "causal=False": not spec.causal,
            "logit_softcap=None (MultiHeadAttention does)": spec.logit_softcap is None,
            "attention_type='flash' with a logit_softcap": spec.attention_type == "flash",
        }

    def attend_prompt(self, q_1HSE: Any, k_1KSE: Any, v_1KSE: Any, positions: PromptPositions) -> Any:
        ttnn, spec = self.ttnn, self.spec
        length, groups = q_1HSE.shape[-2], spec.queries_per_kv_head
        q_1KRE = ttnn.reshape(q_1HSE, [1, spec.num_kv_heads, groups * length, self.head_dim])
        scores_1KRT = self._matmul("sdpa_prefill", q_1KRE, k_1KSE, transpose_b=True)
        scores_1HST = ttnn.reshape(scores_1KRT, [1, spec.num_heads, length, length])
        weights_1HST = self._weights(scores_1HST, positions.causal_mask(spec.sliding_window))
        weights_1KRT = ttnn.reshape(weights_1HST, [1, spec.num_kv_heads, groups * length, length])
        heads_1KRE = self._matmul("sdpa_prefill", weights_1KRT, v_1KSE)
        return ttnn.reshape(heads_1KRE, [1, spec.num_heads, length, self.head_dim])

    def attend_step(self, q_1BHE: Any, cache: KVCache, positions: StepPositions) -> Any:
        ttnn, spec, users = self.ttnn, self.spec, positions.users
        q_1BHE = ttnn.to_memory_config(q_1BHE, ttnn.DRAM_MEMORY_CONFIG)
        q_BKGE = ttnn.reshape(q_1BHE, [users, spec.num_kv_heads, spec.queries_per_kv_head, self.head_dim])
        scores_BKGT = self._matmul("sdpa_decode", q_BKGE, cache.keys, transpose_b=True)
        weights_BKGT = self._weights(scores_BKGT, positions.causal_mask(cache.keys.shape[2], spec.sliding_window))
        heads_BKGE = self._matmul("sdpa_decode", weights_BKGT, cache.values)
        return ttnn.reshape(heads_BKGE, [1, users, spec.num_heads, self.head_dim])

    def _weights(self, scores: Any, mask: Any) -> Any:
        """Softmax of the scores, scaled, capped and masked."""
        ttnn, cap = self.ttnn, self.spec.logit_softcap
        assert cap is not None
        capped = ttnn.multiply(ttnn.tanh(ttnn.multiply(scores, self.spec.softmax_scale / cap)), cap)
        return ttnn.softmax(ttnn.add(capped, mask), dim=-1)

    def _matmul(self, kernel: str, a: Any, b: Any, transpose_b: bool = False) -> Any:
        dtype = getattr(self.ttnn, self.hw_config.activation)  # of scores too, where keys are in a block format
        return self.ttnn.matmul(a, b, transpose_b=transpose_b, dtype=dtype, compute_kernel_config=self.kernels[kernel])
