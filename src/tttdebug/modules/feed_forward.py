# SPDX-License-Identifier: Apache-2.0
"""The gated feed-forward network: down(silu(gate(x)) · up(x))."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tttdebug.errors import SpecError
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Linear, WeightFormat

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import FeedForwardSpec


class FeedForward(TTModule["FeedForwardSpec"]):
    """[1, 1, S, D] to [1, 1, S, D].

    Weights: `w1` (gate) and `w3` (up) [F, D], `w2` (down) [D, F], F the inner width.
    """

    def __init__(
        self,
        spec: FeedForwardSpec,
        weights: Mapping[str, torch.Tensor],
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
    ) -> None:
        super().__init__(spec, weights, device, hw_config)
        if spec.activation != "swiglu" or spec.bias:
            raise SpecError(
                "FeedForward computes activation 'swiglu' without bias, the spec asks for "
                f"{spec.activation!r}{' with bias' if spec.bias else ''}"
            )
        ff1_ff3 = WeightFormat(Linear(), self.hw_config.ff1_ff3, self.hw_config.li_ff1_ff3.math_fidelity)
        self.w1 = self.place("w1", ff1_ff3)
        self.w3 = self.place("w3", ff1_ff3)
        self.w2 = self.place("w2", WeightFormat(Linear(), self.hw_config.ff2, self.hw_config.li_ff2.math_fidelity))
        self.ff1_ff3_kernel = self.hw_config.li_ff1_ff3.to_ttnn(self.ttnn)
        self.ff2_kernel = self.hw_config.li_ff2.to_ttnn(self.ttnn)

    def forward(self, x_11SD: Any) -> Any:
        ttnn = self.ttnn
        gate_11SF = ttnn.linear(x_11SD, self.w1, compute_kernel_config=self.ff1_ff3_kernel)
        up_11SF = ttnn.linear(x_11SD, self.w3, compute_kernel_config=self.ff1_ff3_kernel)
        gated_11SF = ttnn.multiply(gate_11SF, up_11SF, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])
        ttnn.deallocate(gate_11SF)
        ttnn.deallocate(up_11SF)
        out_11SD = ttnn.linear(gated_11SF, self.w2, compute_kernel_config=self.ff2_kernel)
        ttnn.deallocate(gated_11SF)
        return out_11SD
