# SPDX-License-Identifier: Apache-2.0
"""Which modules a fault fits, said in a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tttdebug.faults.site import Site
from tttdebug.modules import (
    CausalLM,
    DecoderLayer,
    Embedding,
    FeedForward,
    LayerNorm,
    LMHead,
    MixtureOfExperts,
    MultiHeadAttention,
    ParallelDecoderLayer,
    PlainFeedForward,
    RMSNorm,
    SoftcappedAttention,
)
from tttdebug.modules.attention_projections import AttentionProjections
from tttdebug.modules.module import TTModule

Fits = Callable[[Site], bool]


def is_a(*classes: type, but: tuple[type, ...] = ()) -> Fits:
    """Modules of these classes, but not of those."""
    return lambda site: isinstance(site.module, classes) and not isinstance(site.module, but)


def both(*conditions: Fits) -> Fits:
    """Where all conditions hold."""
    return lambda site: all(condition(site) for condition in conditions)


def spec_has(condition: Callable[[Any], bool]) -> Fits:
    """Where the module's spec is so."""
    return lambda site: condition(site.spec)


rms_norm = is_a(RMSNorm)
layer_norm = is_a(LayerNorm)
norm = is_a(RMSNorm, LayerNorm)
projections = is_a(AttentionProjections)
attention = is_a(MultiHeadAttention)
fused_attention = is_a(MultiHeadAttention, but=(SoftcappedAttention,))
turning = both(attention, lambda site: site.module.rotary is not None)
network = is_a(FeedForward, PlainFeedForward)
gated = is_a(FeedForward)
plain = is_a(PlainFeedForward)
mixture = is_a(MixtureOfExperts)
layer = is_a(DecoderLayer)
serial_layer = is_a(DecoderLayer, but=(ParallelDecoderLayer,))
embedding = is_a(Embedding)
head = is_a(LMHead)
branch = is_a(AttentionProjections, FeedForward, PlainFeedForward, MixtureOfExperts)
in_language_model: Fits = lambda site: isinstance(site.port, CausalLM)  # noqa: E731


def anything(site: Site) -> bool:
    """Every module that gives one tensor."""
    return isinstance(site.module, TTModule) and not site.boundary.endswith("router")


def keeps(*names: str) -> Fits:
    """Modules that keep these weights themselves."""
    return lambda site: (
        isinstance(site.module, TTModule)
        and set(names) <= {name for held in site.module.places().values() for name in held}
    )


def other_layers(site: Site) -> bool:
    """Where another layer has the same kind of module, with weights of the same shapes."""
    return bool(layers_alike(site))


def layers_alike(site: Site) -> list[int]:
    """The other layers whose module at this boundary has this one's shapes."""
    if site.layer is None or not hasattr(site.module, "shapes"):
        return []
    others = [layer for layer in range(len(site.port.layers)) if layer != site.layer]
    return [layer for layer in others if site.beside(layer).shapes() == site.module.shapes()]
