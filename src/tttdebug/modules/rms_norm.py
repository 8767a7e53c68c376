# SPDX-License-Identifier: Apache-2.0
"""Root-mean-square normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.errors import SpecError
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import Vector, WeightFormat

if TYPE_CHECKING:
    import torch

    from tttdebug.specs import NormSpec


@dataclass(frozen=True)
class OffsetVector(Vector):
    """A gain stored as its difference from one, as Gemma keeps it: the device holds the gain itself."""

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return super().to_port(weight + 1.0)

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return super().to_reference(placed) - 1.0


class RMSNorm(TTModule["NormSpec"]):
    """x / sqrt(mean(x²) + eps) · gain over the last dimension. Weight: `weight` [D]."""

    def __init__(
        self,
        spec: NormSpec,
        weights: Mapping[str, torch.Tensor],
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
    ) -> None:
        super().__init__(spec, weights, device, hw_config)
        if spec.norm_type != "rmsnorm":
            raise SpecError(f"RMSNorm computes norm_type 'rmsnorm', the spec asks for {spec.norm_type!r}")
        layout = OffsetVector() if spec.unit_offset else Vector()
        fidelity = self.hw_config.norms.math_fidelity
        self.weight = self.place("weight", WeightFormat(layout, self.hw_config.norm, fidelity, register="SrcB"))
        self.kernel = self.hw_config.norms.to_ttnn(self.ttnn)

    def forward(self, x_11SD: Any) -> Any:
        return self.ttnn.rms_norm(x_11SD, epsilon=self.spec.eps, weight=self.weight, compute_kernel_config=self.kernel)
