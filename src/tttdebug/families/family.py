# SPDX-License-Identifier: Apache-2.0
"""A family as a table: how its configs become specs, how its modules pair, where its weights are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tttdebug.errors import FamilyError
from tttdebug.families.sources import Source
from tttdebug.specs import CausalLMSpec, DecoderLayerSpec, EncoderModelSpec, MixtureOfExpertsSpec
from tttdebug.tracking.pairing import CachePair, Pair

if TYPE_CHECKING:
    import torch

ModelSpec: TypeAlias = "CausalLMSpec | EncoderModelSpec"
WeightTable: TypeAlias = "Mapping[str, str | Source]"
_PART_OF_SPEC = {"norm": "final_norm", "pooler": "pooler", "classifier": "classifier"}
"""Parts of a port that a model may lack, and the spec's field that is None then."""


@dataclass(frozen=True)
class Family:
    """One model family. `{i}` in a name stands for the layer number.

    `pairs` are in the order of execution. `weights` maps the port's weight names to the reference's, or to a Source
    where the reference keeps a weight in another shape or within a larger one; sizes that it needs come from the spec,
    of which it may be a function. A weight that a spec does not ask for may be in the table. `bare_prefix` is what a
    model with a head puts before the names of the model without. `needs` says in a few words what a user brings.
    """

    name: str
    architectures: tuple[str, ...]
    spec: Callable[[Any], ModelSpec]
    pairs: tuple[Pair, ...]
    weights: WeightTable | Callable[[Any], WeightTable]
    caches: tuple[CachePair, ...] = ()
    bare_prefix: str = ""
    needs: str = "a hub id, a folder or a torch module"
    without_prefix: bool = False

    def for_model(self, model: Any) -> Family:
        """This family with the names that they have in `model`, which may be one without its head."""
        is_bare = bool(self.bare_prefix) and not hasattr(model, self.bare_prefix.removesuffix("."))
        return replace(self, without_prefix=is_bare)

    def pairs_for(self, spec: ModelSpec) -> tuple[Pair, ...]:
        """The pairs of a model of that spec, in the order of execution."""
        layered = [place for place, pair in enumerate(self.pairs) if "{i}" in pair.port]
        first, last = (layered[0], layered[-1] + 1) if layered else (len(self.pairs), len(self.pairs))
        in_order = [
            *self.pairs[:first],
            *(pair.of_layer(i) for i in range(spec.num_layers) for pair in self.pairs[first:last]),
            *self.pairs[last:],
        ]
        return tuple(
            replace(
                pair,
                reference=self.reference_name(pair.reference),
                through=tuple(map(self.reference_name, pair.through)),
            )
            for pair in in_order
            if _is_part_of(spec, pair.port)
        )

    def caches_for(self, spec: ModelSpec) -> tuple[CachePair, ...]:
        """The pairs of key/value caches of a model of that spec."""
        return tuple(
            replace(pair, rotary_dim=spec.layers[pair.layer].attention.rotary_dim)
            for cache in self.caches
            for pair in cache.for_layers(spec.num_layers)
        )

    def sources(self, spec: ModelSpec) -> dict[str, Source]:
        """Where each weight is that a port of that spec needs, by the port's name. Raises FamilyError for a gap."""
        from tttdebug.modules.weight_shapes import weight_shapes

        table = self.weights if isinstance(self.weights, Mapping) else self.weights(spec)
        known: dict[str, Source] = {}
        for port, reference in table.items():
            source = Source(reference) if isinstance(reference, str) else reference
            source = replace(source, name=self.reference_name(source.name))
            for i in range(spec.num_layers) if "{i}" in port else (0,):
                known[port.replace("{i}", str(i))] = source.of_layer(i)
        if unknown := [name for name in weight_shapes(spec) if name not in known]:
            raise FamilyError(
                f"family {self.name} does not say where {len(unknown)} of the port's weights are, first "
                f"{unknown[0]!r}, which the spec asks for: add it to the table of weights"
            )
        return {name: known[name] for name in weight_shapes(spec)}

    def port_weights(self, state: Mapping[str, torch.Tensor], spec: ModelSpec) -> dict[str, torch.Tensor]:
        """The port's weights out of a state dict under the reference's names. Raises FamilyError for a missing one."""
        sources = self.sources(spec)
        if missing := [source.name for source in sources.values() if source.name not in state]:
            raise FamilyError(
                f"the state dict lacks {len(missing)} of the {len(sources)} weights that family {self.name} "
                f"reads, first {missing[0]!r}; give a state dict under the reference's names"
            )
        return {port: source.matrix(state[source.name]) for port, source in sources.items()}

    def refuse_unread(self, parameters: Iterable[str], spec: ModelSpec) -> None:
        """Raise FamilyError when the reference has parameters that no weight of the port comes from."""
        read = {source.name for source in self.sources(spec).values()}
        if unread := [name for name in parameters if name not in read]:
            raise FamilyError(
                f"the reference has {len(unread)} parameters that family {self.name} does not read for this spec, "
                f"first {unread[0]!r}: its port would compute something else"
            )

    def reference_name(self, name: str) -> str:
        """A name of the reference as it is in the model that this family was fitted to."""
        return name.removeprefix(self.bare_prefix) if self.without_prefix else name


def _is_part_of(spec: ModelSpec, port: str) -> bool:
    """Whether a port of that spec has the module at that path."""
    if port.startswith("layers."):
        number, _, part = port.removeprefix("layers.").partition(".")
        layer = spec.layers[int(number)]
        if part == "ff_norm" and isinstance(layer, DecoderLayerSpec):
            return layer.post_attention_norm is not None
        if part == "feed_forward.router":
            return isinstance(layer.feed_forward, MixtureOfExpertsSpec)
        if part == "feed_forward.shared_expert":
            return getattr(layer.feed_forward, "shared_expert", None) is not None
    return port not in _PART_OF_SPEC or getattr(spec, _PART_OF_SPEC[port], None) is not None
