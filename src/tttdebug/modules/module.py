# SPDX-License-Identifier: Apache-2.0
"""What every module of a port shares: its spec, its device with that device's ttnn, and its weights placed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tttdebug.backends import namespace_of, open_device
from tttdebug.errors import WeightsError
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.placement import WeightFormat

if TYPE_CHECKING:
    import torch

Spec = TypeVar("Spec")


class TTModule(Generic[Spec]):
    """A module that computes what `spec` says by calls of the ttnn that belongs to `device`.

    `device` is an open device or the name of one to open ("emulated", "ttnn:0"); `weights` are in the reference's
    layout under the names that the subclass documents. Calling the module calls `forward`.
    """

    def __init__(
        self,
        spec: Spec,
        weights: Mapping[str, torch.Tensor],
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
    ) -> None:
        self.spec = spec
        self.device = open_device(device) if isinstance(device, str) else device
        self.ttnn = namespace_of(self.device)
        self.hw_config = hw_config or HardwareConfig()
        self.weight_formats: dict[str, WeightFormat] = {}
        self._weights = weights

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} is called through prefill_forward or decode_forward")

    def place(self, name: str, weight_format: WeightFormat) -> Any:
        """The weight `name` on the device, in its format. Raises WeightsError when it is not among the weights."""
        return self.place_fused({name: weight_format})

    def place_fused(self, formats: Mapping[str, WeightFormat]) -> Any:
        """Several weights side by side as one device tensor, joined along the output dimension, of one dtype."""
        import torch

        for name in formats:
            if name not in self._weights:
                raise WeightsError(
                    f"{type(self).__name__} needs the weight {name!r}; it was given "
                    f"{', '.join(sorted(self._weights)) or 'none'}"
                )
        self.weight_formats.update(formats)
        parts = [
            weight_format.layout.to_port(self._weights[name].detach().float())
            for name, weight_format in formats.items()
        ]
        dtype = getattr(self.ttnn, next(iter(formats.values())).dtype)
        placed = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return self.ttnn.from_torch(placed, dtype=dtype, layout=self.ttnn.TILE_LAYOUT, device=self.device)


def under(weights: Mapping[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    """The weights whose names start with `path.`, named from there on."""
    return {name[len(path) + 1 :]: weight for name, weight in weights.items() if name.startswith(f"{path}.")}
