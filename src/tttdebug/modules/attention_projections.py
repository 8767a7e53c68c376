# SPDX-License-Identifier: Apache-2.0
"""What every attention shares: the projections to queries, keys and values, fused or not, and the one out of the heads.

S sequence, D hidden, H query heads, K key/value heads, E head dimension, N width of the fused projection.
"""

from __future__ import annotations

from typing import Any

from tttdebug.modules.decisions import stays_in_l1
from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import FromHeads, HeadLinear, HeadVector, Vector, WeightFormat
from tttdebug.modules.positions import whole_tiles
from tttdebug.specs import AttentionSpec


class AttentionProjections(TTModule[AttentionSpec]):
    """Weights: `wq` [H·E, D], `wk` and `wv` [K·E, D], `wo` [D, H·E]; `bq`, `bk`, `bv`, `bo` where the spec has biases.

    The hardware config decides whether the three projections are one matmul (`fuse_qkv`) or three. With a rotary
    embedding, query and key rows go to interleaved rotary order. `head_dim` is that of the heads on the device: whole
    tiles, the last channels zeros where the spec's is none.
    """

    SPEC = AttentionSpec
    KERNELS = ("li_qkv", "li_o", "li_qkv_decode", "li_o_decode", "sdpa_prefill", "sdpa_decode")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spec, hw = self.spec, self.hw_config
        self.head_dim = whole_tiles(spec.head_dim)
        turned = {"q": spec.rotary_dim, "k": spec.rotary_dim, "v": 0}
        self.wqkv = self._place_qkv(
            {
                f"w{part}": WeightFormat(HeadLinear(spec.head_dim, rotary_dim), hw.wqkv, hw.li_qkv)
                for part, rotary_dim in turned.items()
            }
        )
        self.bqkv = [None] * len(self.wqkv)
        if spec.qkv_bias:
            self.bqkv = self._place_qkv(
                {
                    f"b{part}": WeightFormat(HeadVector(spec.head_dim, rotary_dim), hw.bias)
                    for part, rotary_dim in turned.items()
                }
            )
        self.wo = self.place("wo", WeightFormat(FromHeads(spec.head_dim), hw.wo, hw.li_o))
        self.bo = self.place("bo", WeightFormat(Vector(), hw.bias)) if self.spec.output_bias else None
        self.take_kernels()
        self.stays_in_l1 = stays_in_l1(spec.hidden_dim)

    def take_kernels(self) -> None:
        attending = ("sdpa_prefill", "sdpa_decode")
        self.kernels = {name: getattr(self.hw_config, name).to_ttnn(self.ttnn) for name in attending}

    def _place_qkv(self, formats: dict[str, WeightFormat]) -> list[Any]:
        if self.hw_config.fuse_qkv:
            return [self.place_fused(formats)]
        return [self.place(name, weight_format) for name, weight_format in formats.items()]

    def project(self, x_11SD: Any, kernel: str = "li_qkv") -> Any:
        """Queries, keys and values side by side, [1, 1, S, N]."""
        parts = [
            self.linear(x_11SD, weight, kernel, bias, in_l1=self.stays_in_l1)
            for weight, bias in zip(self.wqkv, self.bqkv, strict=True)
        ]
        return parts[0] if len(parts) == 1 else self.ttnn.concat(parts, dim=-1)

    def heads(self, x_11SD: Any) -> tuple[Any, Any, Any]:
        """Queries [1, H, S, E], keys and values [1, K, S, E] of one sequence."""
        return self.ttnn.experimental.nlp_create_qkv_heads(
            self.project(x_11SD),
            num_heads=self.spec.num_heads,
            num_kv_heads=self.spec.num_kv_heads,
            transpose_k_heads=False,
        )

    def output(self, heads_11SN: Any, kernel: str = "li_o") -> Any:
        """Out of the heads, side by side, to hidden states."""
        return self.linear(heads_11SN, self.wo, kernel, self.bo, in_l1=self.stays_in_l1)
