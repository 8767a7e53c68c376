# SPDX-License-Identifier: Apache-2.0
"""Layer normalisation, and the choice of the norm that a spec asks for."""

from __future__ import annotations

from typing import Any

from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Vector, WeightFormat
from tttdebug.modules.rms_norm import OffsetVector, RMSNorm
from tttdebug.specs import NormSpec


class LayerNorm(TTModule[NormSpec]):
    """(x − mean(x)) / sqrt(var(x) + eps) · gain + bias over the last dimension. Weights: `weight` and `bias` [D]."""

    SPEC = NormSpec
    KERNELS = ("norms",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        layout = OffsetVector() if self.spec.unit_offset else Vector()
        kernel = self.hw_config.norms
        gain = WeightFormat(layout, self.hw_config.norm, kernel, register="SrcB")
        self.weight_on_device = self.place("weight", gain)
        self.bias_on_device = (
            self.place("bias", WeightFormat(Vector(), self.hw_config.norm)) if self.spec.bias else None
        )
        self.take_kernels()

    def take_kernels(self) -> None:
        self.kernel = self.hw_config.norms.to_ttnn(self.ttnn)

    @staticmethod
    def not_computed(spec: NormSpec) -> dict[str, bool]:
        return {f"norm_type={spec.norm_type!r}": spec.norm_type != "layernorm"}

    def forward(self, x_11SD: Any) -> Any:
        return self.ttnn.layer_norm(
            x_11SD,
            epsilon=self.spec.eps,
            weight=self.weight_on_device,
            bias=self.bias_on_device,
            compute_kernel_config=self.kernel,
        )


def norm_class(spec: NormSpec) -> type[RMSNorm] | type[LayerNorm]:
    """The class that computes this norm."""
    return LayerNorm if spec.norm_type == "layernorm" else RMSNorm
