# SPDX-License-Identifier: Apache-2.0
"""Turning queries and keys by their positions: frequencies as the spec's scaling has them, and the rotation.

T tokens, E head dimension, R channels that turn, in half-split order: channel i turns with channel i + R/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.specs import RopeSpec


def rotate(
    spec: RopeSpec, rotary_dim: int, heads_TE: torch.Tensor, positions_T: torch.Tensor, arithmetic: Arithmetic
) -> torch.Tensor:
    """Heads […, T, E] turned by their positions, same shape; by tables as the arithmetic keeps activations."""
    import torch

    from tttdebug.modules.rotary_embedding import inverse_frequencies

    angles_TR = torch.outer(positions_T.float(), inverse_frequencies(spec, rotary_dim))
    cos_TR, sin_TR = (arithmetic.rounded(table * spec.cos_sin_scale) for table in (angles_TR.cos(), angles_TR.sin()))
    first, second = heads_TE[..., :rotary_dim].chunk(2, dim=-1)
    still = heads_TE[..., rotary_dim:]
    turned_TE = torch.cat([first * cos_TR - second * sin_TR, second * cos_TR + first * sin_TR, still], dim=-1)
    return arithmetic.rounded(turned_TE)
