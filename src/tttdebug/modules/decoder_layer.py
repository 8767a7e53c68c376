# SPDX-License-Identifier: Apache-2.0
"""A decoder layer: attention and feed-forward, each behind a norm and added to the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tttdebug.errors import SpecError
from tttdebug.modules.attention import MultiHeadAttention
from tttdebug.modules.feed_forward import FeedForward
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.module import TTModule, under
from tttdebug.modules.rms_norm import RMSNorm
from tttdebug.modules.rotary_embedding import RotaryEmbedding
from tttdebug.specs import FeedForwardSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import DecoderLayerSpec


class DecoderLayer(TTModule["DecoderLayerSpec"]):
    """Weights: those of its four parts, under `attention_norm.`, `attention.`, `ff_norm.` and `feed_forward.`."""

    def __init__(
        self,
        spec: DecoderLayerSpec,
        weights: Mapping[str, torch.Tensor],
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
        rotary: RotaryEmbedding | None = None,
    ) -> None:
        super().__init__(spec, weights, device, hw_config)
        if (
            spec.post_attention_norm is None
            or spec.pre_feed_forward_norm is not None
            or spec.parallel_residual
            or not isinstance(spec.feed_forward, FeedForwardSpec)
        ):
            raise SpecError(
                "DecoderLayer computes a norm before attention, a norm before one dense feed-forward, and no parallel "
                f"residual; the spec asks for {spec!r}"
            )
        here = (self.device, self.hw_config)
        self.attention_norm = RMSNorm(spec.input_norm, under(weights, "attention_norm"), *here)
        self.attention = MultiHeadAttention(spec.attention, under(weights, "attention"), *here, rotary=rotary)
        self.ff_norm = RMSNorm(spec.post_attention_norm, under(weights, "ff_norm"), *here)
        self.feed_forward = FeedForward(spec.feed_forward, under(weights, "feed_forward"), *here)

    def prefill_forward(self, x_11SD: Any, tables: tuple[Any, Any], user: int = 0) -> Any:
        return self._feed_forward(x_11SD, self.attention.prefill_forward(self.attention_norm(x_11SD), tables, user))

    def decode_forward(self, x_11BD: Any, tables: tuple[Any, Any], positions_B: Any) -> Any:
        return self._feed_forward(
            x_11BD, self.attention.decode_forward(self.attention_norm(x_11BD), tables, positions_B)
        )

    def _feed_forward(self, x_11SD: Any, attended_11SD: Any) -> Any:
        h_11SD = self.ttnn.add(x_11SD, attended_11SD)
        self.ttnn.deallocate(attended_11SD)
        fed_11SD = self.feed_forward(self.ff_norm(h_11SD))
        out_11SD = self.ttnn.add(h_11SD, fed_11SD)
        self.ttnn.deallocate(fed_11SD)
        return out_11SD
