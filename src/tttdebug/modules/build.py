# SPDX-License-Identifier: Apache-2.0
"""Building the port of a reference: its family's table, its weights, and a hardware config, as one runnable model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from tttdebug.families import family_for
from tttdebug.modules.causal_lm import CausalLM
from tttdebug.modules.encoder_model import EncoderModel
from tttdebug.modules.floor_products import bfloat16_sums
from tttdebug.modules.hardware import HardwareConfig
from tttdebug.modules.module import held_at
from tttdebug.specs import CausalLMSpec
from tttdebug.tracking.floor import DeclaredWeight
from tttdebug.tracking.weight_audit import PlacedPart, PlacedTensor

if TYPE_CHECKING:
    import torch

    from tttdebug.families import Family
    from tttdebug.families.family import ModelSpec
    from tttdebug.families.sources import Source
    from tttdebug.references import Reference
    from tttdebug.tracking.pairing import CachePair, Pair


class FamilyPort:
    """What a family's table adds to a model: how it pairs with its reference."""

    family: Family

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The boundaries at which the two sides can be compared, in the order of execution."""
        return self.family.pairs_for(self.spec)  # type: ignore[attr-defined]

    @property
    def caches(self) -> tuple[CachePair, ...]:
        """The key/value caches that can be compared."""
        return self.family.caches_for(self.spec)  # type: ignore[attr-defined]

    def declared_weights(self, state: Mapping[str, torch.Tensor]) -> dict[str, DeclaredWeight]:
        """What this port's formats and fidelities leave of the reference's weights, under the reference's names.

        `state` may be a part of them, of a reference that is read a layer at a time: then that part's are given.
        """
        sources = self.family.sources(self.spec)  # type: ignore[attr-defined]
        declared: dict[str, DeclaredWeight] = {}
        for port, weight_format in self.declared_formats():  # type: ignore[attr-defined]
            if (
                port not in sources
            ):  # of a module that somebody added to the port: no weight of the reference is its own
                continue
            source = sources[port]
            if source.name not in state:
                continue
            if source.name not in declared:
                declared[source.name] = DeclaredWeight(
                    state[source.name].float().clone(),
                    weight_format.read_input,
                    bfloat16_sums(weight_format, self.hw_config.matmul_programs, self.grid),  # type: ignore[attr-defined]
                )
            values = source.view(declared[source.name].values)
            values.copy_(weight_format.quantise(source.matrix(state[source.name])).view(values.shape))
        return declared

    def placed_weights(self) -> Iterator[PlacedTensor]:
        """Every weight tensor on the device with what it is declared to hold, for the audit."""
        sources = self.family.sources(self.spec)  # type: ignore[attr-defined]
        for path, module in self.modules_inside():  # type: ignore[attr-defined]
            named = {name for names in module.places().values() for name in names}
            kept_within = [name for name in module.weight_formats if name not in named and path + name in sources]
            if kept_within:
                yield PlacedTensor(path.rstrip("."), None, _parts(path, kept_within, module, sources), is_sum=True)
            for attribute, names in module.places().items():
                if known := [name for name in names if path + name in sources]:
                    yield PlacedTensor(
                        path + attribute, held_at(module, attribute), _parts(path, known, module, sources)
                    )


def _parts(path: str, names: Iterable[str], module: Any, sources: Mapping[str, Source]) -> tuple[PlacedPart, ...]:
    formats = module.weight_formats
    return tuple(
        PlacedPart(
            f"{path}{name}",
            sources[path + name].name,
            sources[path + name].matrix,
            formats[name].layout,
            formats[name].dtype,
        )
        for name in names
    )


class CausalLMPort(FamilyPort, CausalLM):
    """The port of a language model."""

    def __init__(self, family: Family, *args: Any) -> None:
        self.family = family
        super().__init__(*args)


class EncoderPort(FamilyPort, EncoderModel):
    """The port of an encoder."""

    def __init__(self, family: Family, *args: Any) -> None:
        self.family = family
        super().__init__(*args)


Port: TypeAlias = "CausalLMPort | EncoderPort"


def build_model(
    reference: Reference,
    device: Any,
    precision: str = "accuracy",
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
    hw_config: HardwareConfig | None = None,
) -> Port:
    """The port of `reference` on `device`, in one of the precisions `accuracy`, `performance`, `bf16`, by a hint
    (`auto`, `high`, `balanced`, `fast`), or as a TT-Transformers `decoder_config.json` says.

    `weights` replaces the reference's own by another state dict under the reference's names, e.g. a broken one;
    `hw_config` replaces the preset that `precision` names. Raises FamilyError for an architecture no family fits, and
    for a reference with parameters that its family does not read; SpecError for a config or hardware config that does
    not fit.
    """
    model = reference.model
    family = family_for(model)
    spec: ModelSpec = family.spec(model.config)
    family.refuse_unread((name for name, _ in model.named_parameters()), spec)
    own = reference.state_dict() if weights is None else weights
    port = CausalLMPort if isinstance(spec, CausalLMSpec) else EncoderPort
    built = port(family, spec, family.port_weights(own, spec), device, hw_config or HardwareConfig.named(precision))
    for _, module in built.modules_inside():
        module.places()  # while every attribute still holds what was placed there
    return built
