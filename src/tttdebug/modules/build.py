# SPDX-License-Identifier: Apache-2.0
"""Building the port of a reference: its family's table, its weights, and a hardware config, as one runnable model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tttdebug.families import family_for
from tttdebug.modules.causal_lm import CausalLM
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.tracking.floor import DeclaredWeight

if TYPE_CHECKING:
    import torch

    from tttdebug.families import Family
    from tttdebug.references import Reference
    from tttdebug.tracking.pairing import CachePair, Pair


class FamilyPort(CausalLM):
    """A CausalLM that knows, from its family's table, how it pairs with its reference."""

    def __init__(
        self, family: Family, config: Any, weights: Mapping[str, torch.Tensor], device: Any, hw_config: HardwareConfig
    ) -> None:
        spec = family.spec(config)
        self.family = family
        super().__init__(spec, family.port_weights(weights, spec.num_layers), device, hw_config)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The boundaries at which the two sides can be compared, in the order of execution."""
        return self.family.pairs_for(self.spec.num_layers)

    @property
    def caches(self) -> tuple[CachePair, ...]:
        """The key/value caches that can be compared."""
        return self.family.caches_for(self.spec.num_layers)

    def declared_weights(self, state: Mapping[str, torch.Tensor]) -> dict[str, DeclaredWeight]:
        """What this port's formats and fidelities leave of the reference's weights, under the reference's names."""
        names = self.family.weight_names(self.spec.num_layers)
        return {
            names[port]: DeclaredWeight(declared.quantise(state[names[port]]), declared.read_input)
            for port, declared in self.declared_formats()
        }


def build_model(
    reference: Reference,
    device: Any,
    precision: str = "accuracy",
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
    hw_config: HardwareConfig | None = None,
) -> FamilyPort:
    """The port of `reference` on `device`, in one of the precisions `accuracy`, `performance`, `bf16`.

    `weights` replaces the reference's own by another state dict under the reference's names, e.g. a broken one;
    `hw_config` replaces the preset that `precision` names. Raises FamilyError for an architecture no family fits.
    """
    model = reference.model
    state = model.state_dict() if weights is None else weights
    return FamilyPort(family_for(model), model.config, state, device, hw_config or HardwareConfig.preset(precision))
