# SPDX-License-Identifier: Apache-2.0
"""Self-attention that sees all positions, as encoders use it."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.attention_programs import choose_prompt_attention
from tttdebug.modules.attention_projections import AttentionProjections
from tttdebug.modules.positions import PromptPositions
from tttdebug.specs import AttentionSpec


class EncoderAttention(AttentionProjections):
    """[1, 1, S, D] to [1, 1, S, D]; padding is masked. Weights: those of AttentionProjections."""

    @staticmethod
    def not_computed(spec: AttentionSpec) -> dict[str, bool]:
        return {
            "causal=True (MultiHeadAttention does)": spec.causal,
            "rope": spec.rope is not None,
            "qk_norm": spec.qk_norm is not None,
            "sliding_window": spec.sliding_window is not None,
            "logit_softcap": spec.logit_softcap is not None,
        }

    def forward(self, x_11SD: Any, positions: PromptPositions | None = None) -> Any:
        """`positions` tell the padding; without them there is none."""
        ttnn = self.ttnn
        program = choose_prompt_attention(x_11SD.shape[-2], self.head_dim, self.grid)
        heads_1HSE = ttnn.transformer.scaled_dot_product_attention(
            *self.heads(x_11SD),
            is_causal=False,
            attn_mask=None if positions is None else positions.padding_mask(),
            scale=self.spec.softmax_scale,
            program_config=program.to_ttnn(ttnn),
            compute_kernel_config=self.kernels["sdpa_prefill"],
        )
        return self.output(ttnn.experimental.nlp_concat_heads(heads_1HSE))
