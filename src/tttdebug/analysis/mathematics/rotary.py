# SPDX-License-Identifier: Apache-2.0
"""Turning queries and keys by their positions: frequencies as the spec's scaling has them, and the rotation.

T tokens, E head dimension, R channels that turn, in half-split order: channel i turns with channel i + R/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import RopeSpec


def rotate(spec: RopeSpec, rotary_dim: int, heads_TE: torch.Tensor, positions_T: torch.Tensor) -> torch.Tensor:
    """Heads […, T, E] turned by their positions, same shape."""
    import torch

    from tttdebug.modules.rotary_embedding import inverse_frequencies

    angles_TR = torch.outer(positions_T.float(), inverse_frequencies(spec, rotary_dim))
    cos_TR, sin_TR = angles_TR.cos() * spec.cos_sin_scale, angles_TR.sin() * spec.cos_sin_scale
    first, second = heads_TE[..., :rotary_dim].chunk(2, dim=-1)
    still = heads_TE[..., rotary_dim:]
    return torch.cat([first * cos_TR - second * sin_TR, second * cos_TR + first * sin_TR, still], dim=-1)
