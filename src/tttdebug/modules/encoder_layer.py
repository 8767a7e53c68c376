# SPDX-License-Identifier: Apache-2.0
"""A layer of an encoder, with its norms before the branches (ViT) or after the sums (BERT)."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.encoder_attention import EncoderAttention
from tttdebug.modules.layer_norm import norm_class
from tttdebug.modules.module import TTModule
from tttdebug.modules.plain_feed_forward import feed_forward_class
from tttdebug.modules.positions import PromptPositions
from tttdebug.specs import EncoderLayerSpec


class EncoderLayer(TTModule[EncoderLayerSpec]):
    """h = x + attention(norm(x)); h + feed_forward(norm(h)).

    Weights: those of its parts, under `attention_norm.`, `attention.`, `ff_norm.` and `feed_forward.`.
    """

    SPEC = EncoderLayerSpec

    @property
    def wiring(self) -> str:
        """What the layer computes of its parts, from its input x."""
        return "h = x + attention(attention_norm(x)); h + feed_forward(ff_norm(h))"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spec, here = self.spec, (self.device, self.hw_config)
        self.attention = EncoderAttention(spec.attention, self.weights_of("attention"), *here)
        self.feed_forward: Any = feed_forward_class(spec.feed_forward)(
            spec.feed_forward, self.weights_of("feed_forward"), *here
        )
        self.attention_norm: Any = norm_class(spec.attention_norm)(
            spec.attention_norm, self.weights_of("attention_norm"), *here
        )
        self.ff_norm: Any = norm_class(spec.feed_forward_norm)(
            spec.feed_forward_norm, self.weights_of("ff_norm"), *here
        )

    @staticmethod
    def not_computed(spec: EncoderLayerSpec) -> dict[str, bool]:
        return {f"norm_position={spec.norm_position!r} (PostNormEncoderLayer does)": spec.norm_position != "pre"}

    def forward(self, x_11SD: Any, positions: PromptPositions | None = None) -> Any:
        h_11SD = self.ttnn.add(x_11SD, self.attention(self.attention_norm(x_11SD), positions))
        return self.ttnn.add(h_11SD, self.feed_forward(self.ff_norm(h_11SD)))


class PostNormEncoderLayer(EncoderLayer):
    """h = norm(x + attention(x)); norm(h + feed_forward(h))."""

    @property
    def wiring(self) -> str:
        return "h = attention_norm(x + attention(x)); ff_norm(h + feed_forward(h))"

    @staticmethod
    def not_computed(spec: EncoderLayerSpec) -> dict[str, bool]:
        return {f"norm_position={spec.norm_position!r} (EncoderLayer does)": spec.norm_position != "post"}

    def forward(self, x_11SD: Any, positions: PromptPositions | None = None) -> Any:
        h_11SD = self.attention_norm(self.ttnn.add(x_11SD, self.attention(x_11SD, positions)))
        return self.ff_norm(self.ttnn.add(h_11SD, self.feed_forward(h_11SD)))


def encoder_layer_class(spec: EncoderLayerSpec) -> type[EncoderLayer]:
    """The class that computes this layer."""
    return EncoderLayer if spec.norm_position == "pre" else PostNormEncoderLayer
