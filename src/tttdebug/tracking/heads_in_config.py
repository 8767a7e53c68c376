# SPDX-License-Identifier: Apache-2.0
"""What a reference's Hugging Face config says of its attention heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.pairing import PairLayout

if TYPE_CHECKING:
    from torch import nn

_TURNED = tuple(f".self_attn.{part}" for part in ("q_proj", "k_proj", "q_norm", "k_norm"))


@dataclass(frozen=True)
class HeadsInConfig:
    """Counts of heads and the channels of one, None where there is no config; whether positions turn them."""

    heads: int | None
    kv_heads: int | None
    head_dim: int | None
    turn: bool

    @classmethod
    def of(cls, model: nn.Module) -> HeadsInConfig:
        config: Any = getattr(model, "config", None)
        heads, width = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
        head_dim = getattr(config, "head_dim", None) or (width // heads if heads and width else None)
        ropes = ("rope_theta", "rope_parameters", "rope_scaling")
        turn = any(getattr(config, name, None) is not None for name in ropes)
        return cls(heads, getattr(config, "num_key_value_heads", None) or heads, head_dim, turn)

    def layout_at(self, boundary: str, layout: PairLayout) -> PairLayout:
        """A pair's layout: queries and keys that positions turn may be in either order of a head."""
        if boundary.endswith(_TURNED) and self.turn and self.head_dim:
            return replace(layout, head_order="auto", head_dim=self.head_dim)
        return layout

    def projection_sizes(self) -> list[int]:
        """The channels of queries, keys and values; empty where the config does not say."""
        if not self.heads or not self.kv_heads or not self.head_dim:
            return []
        return [self.heads * self.head_dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim]
