# SPDX-License-Identifier: Apache-2.0
"""Scores, softmax and mixture as ttnn's attention kernel computes them under given settings, step by step.

R queries, S keys, H query heads, K key/value heads, E head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.attention import Heads
    from tttdebug.modules.hardware import ComputeKernel
    from tttdebug.specs import AttentionSpec

TILE = 32
"""The queries and keys of a tile, and so many a core takes at a time of short prompts."""


@dataclass(frozen=True)
class AttentionKernel:
    """The settings of ttnn's attention: fidelity and sums, and whether its exponential is the approximate one."""

    compute: ComputeKernel
    approximates_exp: bool = False

    def attend(self, heads: Heads, hidden_RS: torch.Tensor | None, spec: AttentionSpec) -> torch.Tensor:
        """Each query's mixture of the values that are not hidden from it, [H, R, E].

        A step's one query takes the kernel for steps. Of a prompt, all queries take the one that knows what is causal,
        and some of them the one with a mask, which rounds more often.
        """
        import torch

        from tttdebug.emulator import open_device, ttnn

        device = open_device("fast")
        tokens, keys = heads.queries_HRE.shape[1], heads.keys_KSE.shape[1]

        def placed(values_XYE: torch.Tensor) -> ttnn.Tensor:
            """In whole tiles, zeros behind."""
            padded = torch.nn.functional.pad(
                values_XYE, (0, -values_XYE.shape[2] % TILE, 0, -values_XYE.shape[1] % TILE)
            )
            return ttnn.from_torch(padded[None], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)

        k, v = placed(heads.keys_KSE), placed(heads.values_KSE)
        is_step = tokens == 1 and keys > 1
        chunk = 0 if is_step else TILE
        settings = {
            "scale": spec.softmax_scale,
            "program_config": ttnn.SDPAProgramConfig(
                compute_with_storage_grid_size=device.compute_with_storage_grid_size(),
                q_chunk_size=chunk,
                k_chunk_size=chunk,
                exp_approx_mode=self.approximates_exp,
            ),
            "compute_kernel_config": self.compute.to_ttnn(ttnn),
        }
        attention = ttnn.transformer
        if is_step:
            q = ttnn.from_torch(
                _whole_tiles_wide(heads.queries_HRE.transpose(0, 1)[None]),
                dtype=ttnn.bfloat16,
                layout=ttnn.TILE_LAYOUT,
                device=device,
            )
            mixed = attention.scaled_dot_product_attention_decode(
                q, k, v, cur_pos=[keys - 1], sliding_window_size=spec.sliding_window, **settings
            )
            return ttnn.to_torch(mixed).float()[0, 0, : len(heads.queries_HRE), None, : spec.head_dim]
        q = placed(heads.queries_HRE)
        if tokens == keys and spec.causal:
            window = spec.sliding_window
            mixed = attention.scaled_dot_product_attention(
                q, k, v, is_causal=True, sliding_window_size=window, **settings
            )
        else:
            hidden_RS = torch.zeros(tokens, keys, dtype=torch.bool) if hidden_RS is None else hidden_RS
            hidden_RS = torch.nn.functional.pad(hidden_RS, (0, -keys % TILE), value=True)
            mask_1RS = torch.zeros(hidden_RS.shape).masked_fill(hidden_RS, -torch.inf)[None]
            mixed = attention.scaled_dot_product_attention(
                q, k, v, attn_mask=placed(mask_1RS), is_causal=False, **settings
            )
        return ttnn.to_torch(mixed).float()[0, :, :tokens, : spec.head_dim]


def _whole_tiles_wide(values: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.pad(values, (0, -values.shape[-1] % TILE))
