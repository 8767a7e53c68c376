# SPDX-License-Identifier: Apache-2.0
"""The feed-forward network without a gate, down(f(up(x))), and the choice between the two kinds."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.feed_forward import FeedForward
from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, Vector, WeightFormat
from tttdebug.specs import FeedForwardSpec


class PlainFeedForward(TTModule[FeedForwardSpec]):
    """[1, 1, S, D] to [1, 1, S, D].

    Weights: `w1` (up) [F, D] and `w2` (down) [D, F], F the inner width; biases `b1` and `b2` where the spec has them.
    """

    SPEC = FeedForwardSpec
    KERNELS = ("li_ff1_ff3", "li_ff2")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hw = self.hw_config
        self.w1 = self.place("w1", WeightFormat(Linear(), hw.ff1_ff3, hw.li_ff1_ff3))
        self.w2 = self.place("w2", WeightFormat(Linear(), hw.ff2, hw.li_ff2))
        self.b1, self.b2 = (
            self.place(name, WeightFormat(Vector(), hw.bias)) if self.spec.bias else None for name in ("b1", "b2")
        )

    @staticmethod
    def not_computed(spec: FeedForwardSpec) -> dict[str, bool]:
        return {f"activation={spec.activation!r} with a gate (FeedForward does)": spec.is_gated}

    def forward(self, x_11SD: Any) -> Any:
        ttnn = self.ttnn
        up_11SF = self.linear(x_11SD, self.w1, "li_ff1_ff3", self.b1)
        inner_11SF = self._activate(up_11SF)
        ttnn.deallocate(up_11SF)
        out_11SD = self.linear(inner_11SF, self.w2, "li_ff2", self.b2)
        ttnn.deallocate(inner_11SF)
        return out_11SD

    def _activate(self, x_11SF: Any) -> Any:
        ttnn, name = self.ttnn, self.spec.nonlinearity
        if name == "gelu_tanh":
            return ttnn.gelu(x_11SF, variant=ttnn.GeluVariant.Tanh)
        if name == "relu2":
            return ttnn.square(ttnn.relu(x_11SF))
        return getattr(ttnn, name)(x_11SF)


def feed_forward_class(spec: FeedForwardSpec) -> type[FeedForward] | type[PlainFeedForward]:
    """The class that computes this network."""
    return FeedForward if spec.is_gated else PlainFeedForward
