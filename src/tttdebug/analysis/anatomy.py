# SPDX-License-Identifier: Apache-2.0
"""What each module of a reference computes, by its path: its spec and its weights, as its family's table says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.module_call import Kind, ReadAs
from tttdebug.errors import FamilyError
from tttdebug.families import family_for
from tttdebug.modules.module import under
from tttdebug.specs import (
    AttentionSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    EncoderLayerSpec,
    FeedForwardSpec,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    ModuleSpec,
    NormSpec,
)

if TYPE_CHECKING:
    import torch

    from tttdebug.references import Reference

_KINDS: tuple[tuple[type[ModuleSpec], Kind], ...] = (
    (NormSpec, "norm"),
    (AttentionSpec, "attention"),
    (FeedForwardSpec, "feed_forward"),
    (MixtureOfExpertsSpec, "mixture"),
    (DecoderLayerSpec, "layer"),
    (EncoderLayerSpec, "layer"),
    (EmbeddingSpec, "embedding"),
    (LMHeadSpec, "lm_head"),
)
_LAYER = re.compile(r"^layers\.(\d+)\b\.?")
#         part of a layer's port: the fields of its spec that say what it computes, the first one that is there
_FIELDS = {
    "attention_norm": ("input_norm", "attention_norm"),
    "ff_norm": ("pre_feed_forward_norm", "post_attention_norm", "feed_forward_norm"),
    "post_attention_norm": ("post_attention_norm",),
    "post_ff_norm": ("post_feed_forward_norm",),
    "attention": ("attention",),
    "feed_forward": ("feed_forward",),
    "norm": ("final_norm",),
}


@dataclass(frozen=True)
class Part:
    """One module: where a port of ours has it, what it computes, in which layer, and its weights in fp32."""

    path: str
    kind: Kind
    spec: ModuleSpec | None
    layer: int | None
    weights: Mapping[str, torch.Tensor]
    formats: Mapping[str, ReadAs] = field(default_factory=dict)


class Anatomy:
    """The parts of one reference; `unknown` says why there are none where no family knows it."""

    def __init__(self, reference: Reference, formats: Mapping[str, ReadAs]) -> None:
        """`formats` says how the port keeps each weight, by the names of a port of ours."""
        self.unknown = ""
        self._paths: dict[str, str] = {}
        try:
            family = family_for(reference.model)
            self._spec: Any = family.spec(reference.config)
            weights = family.port_weights(reference.model.state_dict(), self._spec)
        except FamilyError as error:
            self.unknown = str(error)
            return
        self._weights = weights
        self._formats = formats
        self._paths = {pair.reference: pair.port for pair in family.pairs_for(self._spec)}

    @property
    def experts_per_token(self) -> int | None:
        """How many experts a token goes to; None where no layer is a mixture."""
        layers = () if self.unknown else self._spec.layers
        networks = (getattr(layer, "feed_forward", None) for layer in layers)
        return next((net.experts_per_token for net in networks if isinstance(net, MixtureOfExpertsSpec)), None)

    def part_at(self, reference_path: str) -> Part | None:
        """The module at a path of the reference; None for one that the family's table does not name."""
        path = self._paths.get(reference_path)
        if path is None:
            return None
        spec = _spec_at(self._spec, path)
        kind = next((kind for of, kind in _KINDS if isinstance(spec, of)), "other")
        match = _LAYER.match(path)
        formats = under(self._formats, path)  # type: ignore[arg-type]
        return Part(path, kind, spec, int(match[1]) if match else None, self._in_fp32(path), dict(formats))  # type: ignore[arg-type]

    def weights_of_layer(self, part: Part, layer: int) -> Mapping[str, torch.Tensor] | None:
        """The weights of the same module in another layer; None for one outside the layers."""
        if part.layer is None or not 0 <= layer < self._spec.num_layers:
            return None
        return self._in_fp32(_LAYER.sub(f"layers.{layer}.", part.path).rstrip("."))

    def _in_fp32(self, path: str) -> Mapping[str, torch.Tensor]:
        return {name: weight.detach().float() for name, weight in under(self._weights, path).items()}


def _spec_at(spec: Any, path: str) -> ModuleSpec | None:
    """The spec of the module at a path of our port of a model of that spec."""
    holder, rest = spec, path
    if match := _LAYER.match(path):
        holder, rest = spec.layers[int(match[1])], path[match.end() :]
    for name in rest.split(".") if rest else ():
        fields = [field for field in _FIELDS.get(name, (name,)) if getattr(holder, field, None) is not None]
        if not fields:
            return None
        holder = getattr(holder, fields[0])
    return holder if isinstance(holder, ModuleSpec) else None


def other_layers(anatomy: Anatomy, part: Part) -> Any:
    """The function that gives the weights of this module in another layer."""
    return partial(anatomy.weights_of_layer, part)


def formats_of(port: Any) -> dict[str, ReadAs]:
    """How a port of ours keeps each weight; empty for a port that does not say."""
    declared = getattr(port, "declared_formats", None)
    return {} if declared is None else dict(declared())
