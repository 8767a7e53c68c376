# SPDX-License-Identifier: Apache-2.0
"""One call of one module on both sides, with the same input: all that an experiment needs to know.

T tokens of this call, P positions before it, D hidden, C output channels, K key/value heads, E head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from tttdebug.tracking.record import Key

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.held_weights import HeldWeight
    from tttdebug.specs import ModuleSpec

Kind = Literal["norm", "attention", "feed_forward", "mixture", "layer", "embedding", "lm_head", "other"]


class ReadAs(Protocol):
    """What the port's settings leave of a weight, and of the input that is multiplied by it. `WeightFormat` is one."""

    @property
    def dtype(self) -> str: ...

    def quantise(self, weight: torch.Tensor) -> torch.Tensor: ...

    def read_input(self, x: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class KeysValues:
    """A cache of one user in the reference's rotary order: both [K, P, E]."""

    keys_KPE: torch.Tensor
    values_KPE: torch.Tensor


@dataclass(frozen=True)
class ModuleCall:
    """A module of the port and its counterpart, both fed with the reference's input in one call of one user.

    `spec` says what the module computes and is None where no family knows the reference. `weights` are the reference's,
    fp32, under the names that the port's module documents (`wq`, `w1`, `weight`); `formats` how the port keeps each of
    them; a weight without a format is in bfloat16. `weights_of_layer(i)` are the same weights of another layer, None
    beyond the last. `input_TD` is the reference's input (token ids for an embedding), `reference_TC` its output,
    `port_TC` what the port's module gave for that input, in the reference's layout, and `floor_rel_l2` the error that
    the number formats alone cause in this module with this input.

    `past` is the reference's cache before the call, as the port's format keeps it, `behind` what the port's cache holds
    after the call's own tokens, and `past_of_layer(i)` what an attention would find in the cache of layer i, None
    beyond the last: with the call's own tokens where that layer comes first. `port_fresh` and `reference_fresh` are the
    keys and values [K, T, E] that the call wrote, in the reference's rotary order. `parts` are what the port's modules
    directly within this one gave, by their short names: a layer's norms and branches, a mixture's router.

    `held` are those of its weights that the device holds otherwise than declared, None where the port does not say what
    it declares.

    Of a call that was narrowed to some of its output channels, `whole` is all of it and `kept_C` are these channels.
    """

    key: Key
    kind: Kind
    spec: ModuleSpec | None
    weights: Mapping[str, torch.Tensor]
    formats: Mapping[str, ReadAs]
    input_TD: torch.Tensor
    reference_TC: torch.Tensor
    port_TC: torch.Tensor
    floor_rel_l2: float
    positions_T: torch.Tensor
    past: KeysValues | None = None
    behind: KeysValues | None = None
    port_fresh: KeysValues | None = None
    reference_fresh: KeysValues | None = None
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    layer: int | None = None
    weights_of_layer: Callable[[int], Mapping[str, torch.Tensor] | None] = lambda layer: None
    past_of_layer: Callable[[int], KeysValues | None] = lambda layer: None
    module: str = ""
    reference_path: str = ""
    held: Mapping[str, HeldWeight] | None = None
    whole: ModuleCall | None = None
    kept_C: torch.Tensor | None = None

    @property
    def boundary(self) -> str:
        return self.key.boundary
