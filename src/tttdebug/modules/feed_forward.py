# SPDX-License-Identifier: Apache-2.0
"""The feed-forward network with a gate: down(f(gate(x)) · up(x))."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, Vector, WeightFormat
from tttdebug.specs import FeedForwardSpec

GATES = {"silu": "SILU", "gelu": "GELU", "gelu_tanh": "GELU_TANH", "relu": "RELU"}
"""The gate's function f, and what ttnn calls it where it is fused into the product."""


class FeedForward(TTModule[FeedForwardSpec]):
    """[1, 1, S, D] to [1, 1, S, D].

    Weights: `w1` (gate) and `w3` (up) [F, D], `w2` (down) [D, F], F the inner width; biases `b1`, `b3`, `b2` where the
    spec has them.
    """

    SPEC = FeedForwardSpec
    KERNELS = ("li_ff1_ff3", "li_ff2")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hw = self.hw_config
        ff1_ff3 = WeightFormat(Linear(), hw.ff1_ff3, hw.li_ff1_ff3)
        self.w1 = self.place("w1", ff1_ff3)
        self.w3 = self.place("w3", ff1_ff3)
        self.w2 = self.place("w2", WeightFormat(Linear(), hw.ff2, hw.li_ff2))
        self.b1, self.b2, self.b3 = (
            self.place(name, WeightFormat(Vector(), hw.bias)) if self.spec.bias else None for name in ("b1", "b2", "b3")
        )
        self.gate = getattr(self.ttnn.UnaryOpType, GATES[self.spec.nonlinearity])

    @staticmethod
    def not_computed(spec: FeedForwardSpec) -> dict[str, bool]:
        return {f"activation={spec.activation!r} without a gate (PlainFeedForward does)": not spec.is_gated}

    def forward(self, x_11SD: Any) -> Any:
        ttnn = self.ttnn
        gate_11SF = self.linear(x_11SD, self.w1, "li_ff1_ff3", self.b1)
        up_11SF = self.linear(x_11SD, self.w3, "li_ff1_ff3", self.b3)
        gated_11SF = ttnn.multiply(gate_11SF, up_11SF, input_tensor_a_activations=[self.gate])
        ttnn.deallocate(gate_11SF)
        ttnn.deallocate(up_11SF)
        out_11SD = self.linear(gated_11SF, self.w2, "li_ff2", self.b2)
        ttnn.deallocate(gated_11SF)
        return out_11SD
