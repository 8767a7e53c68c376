# SPDX-License-Identifier: Apache-2.0
"""Root-mean-square normalisation, of the residual stream and of query and key heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.modules.module import TTModule
from tttdebug.modules.placement import HeadVector, Layout, Vector, WeightFormat
from tttdebug.modules.positions import whole_tiles
from tttdebug.specs import NormSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class OffsetVector(Vector):
    """A gain stored as its difference from one, as Gemma keeps it: the device holds the gain itself."""

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return super().to_port(weight + 1.0)

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return super().to_reference(placed) - 1.0


class RMSNorm(TTModule[NormSpec]):
    """x / sqrt(mean(x²) + eps) · gain over the last dimension. Weight: `weight` [D]."""

    SPEC = NormSpec
    KERNELS = ("norms",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kernel = self.hw_config.norms
        self.weight_on_device = self.place(
            "weight", WeightFormat(self.gain_layout(), self.hw_config.norm, kernel, register="SrcB")
        )
        self.epsilon = self.spec.eps
        self.take_kernels()

    def take_kernels(self) -> None:
        self.kernel = self.hw_config.norms.to_ttnn(self.ttnn)

    @staticmethod
    def not_computed(spec: NormSpec) -> dict[str, bool]:
        return {f"norm_type={spec.norm_type!r}": spec.norm_type != "rmsnorm", "bias": spec.bias}

    def gain_layout(self) -> Layout:
        """How the gain lies on the device."""
        return OffsetVector() if self.spec.unit_offset else Vector()

    def forward(self, x_11SD: Any) -> Any:
        return self.ttnn.rms_norm(
            x_11SD, epsilon=self.epsilon, weight=self.weight_on_device, compute_kernel_config=self.kernel
        )


@dataclass(frozen=True)
class HeadGain(HeadVector):
    """The gain of a head that is padded to whole tiles: the mean is over more channels than the head has.

    Of E channels padded to P with zeros, mean(x²) over P is E/P of that over E, so the gain shrinks by sqrt(E/P).
    """

    def to_port(self, weight: torch.Tensor) -> torch.Tensor:
        return super().to_port(weight) * self._shrink()

    def to_reference(self, placed: torch.Tensor) -> torch.Tensor:
        return super().to_reference(placed / self._shrink())

    def _shrink(self) -> float:
        return float((self.head_dim / whole_tiles(self.head_dim)) ** 0.5)


class HeadNorm(RMSNorm):
    """RMSNorm of each query or key head, before the rotary embedding. Weight: `weight` [E].

    The heads are in interleaved rotary order and padded to whole tiles, so the gain is too.
    """

    def __init__(self, *args: Any, rotary_dim: int, **kwargs: Any) -> None:
        self.rotary_dim = rotary_dim
        super().__init__(*args, **kwargs)
        self.epsilon *= self.spec.hidden_dim / whole_tiles(self.spec.hidden_dim)  # as the mean shrinks: see HeadGain

    def gain_layout(self) -> Layout:
        plain = OffsetVector() if self.spec.unit_offset else Vector()
        return HeadGain(self.spec.hidden_dim, self.rotary_dim, plain)

    def decode_forward(self, heads_1BHE: Any) -> Any:
        """Heads that lie one user a core: the norm reads them out of there, and they go back."""
        ttnn, home = self.ttnn, heads_1BHE.memory_config()
        normed_1BHE = self.forward(ttnn.to_memory_config(heads_1BHE, ttnn.DRAM_MEMORY_CONFIG))
        return ttnn.to_memory_config(normed_1BHE, home)
