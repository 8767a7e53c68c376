# SPDX-License-Identifier: Apache-2.0
"""The floor of a reference that is larger than memory: its layers in the port's formats, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tttdebug.references.layer_streamed import put
from tttdebug.tracking.floor import DeclaredWeight, read_as_declared

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tttdebug.references.layer_streamed import LayerStream

Declare = Callable[[Mapping[str, "Tensor"]], Mapping[str, DeclaredWeight]]
"""What the port's settings leave of some of the reference's weights, by name."""


def streamed_floor(stream: LayerStream, declare: Declare) -> nn.Module:
    """What `floor_model` makes of the whole reference, bit for bit; each layer's weights are rounded when it comes."""
    import torch

    def place(model: nn.Module, weights: Mapping[str, Tensor]) -> Callable[[], None]:
        declared = declare(weights)
        rounded = {name: declared[name].values if name in declared else weight for name, weight in weights.items()}
        put(model, {name: values.to(torch.bfloat16) for name, values in rounded.items()})
        return read_as_declared(model, declared)

    return stream.twin(place).model
