# SPDX-License-Identifier: Apache-2.0
"""What can be told of a module without running it: its kind by its class's name, and the shapes of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tttdebug.backends import is_device_tensor
from tttdebug.tracking.discovery import values_in

if TYPE_CHECKING:
    from torch import nn

Shapes = tuple[tuple[int, ...], ...]

_KINDS = (
    ("rotary", r"rotary|rope"),
    ("norm", r"norm"),
    ("attention", r"attention|attn|mha"),
    ("mlp", r"mlp|feedforward|ffn|mixture|moe"),
    ("embedding", r"embed"),
    ("linear", r"linear|proj|dense|conv1d|matmul|lmhead"),
    ("layer", r"layer|block"),
)
_DEPTH = 4  # of attributes and lists between a module and its weights
_DEVICE_COUNTS = (1, 2, 4, 8, 16, 32)


def kind_of(class_name: str) -> str:
    """attention, mlp, norm, embedding, linear, rotary or layer; "" for a class whose name says none of these."""
    plain = class_name.replace("_", "").lower()
    return next((kind for kind, pattern in _KINDS if re.search(pattern, plain)), "")


def shapes_in_torch(module: nn.Module) -> Shapes:
    """The shapes of a torch module's parameters, ordered, each with its sizes ordered and without ones."""
    return _ordered(tuple(parameter.shape) for parameter in module.parameters())


def shapes_in_port(module: Any, outside: Iterable[Any] = ()) -> Shapes:
    """The shapes of the tensors that a port's module and what it holds have as attributes, in the same form.

    What is `outside` of the module, such as a layer that it has a link back to, is not looked into. A weight that is
    not loaded yet counts by the torch tensor that it will be made of (`source`).
    """
    import torch

    found: list[tuple[int, ...]] = []
    waiting, seen = [(module, 0)], {id(module), *map(id, outside)}
    while waiting:
        value, depth = waiting.pop()
        source = getattr(value, "__dict__", {}).get("source")
        if isinstance(value, torch.Tensor) or is_device_tensor(value):
            found.append(tuple(value.shape))
        elif isinstance(source, torch.Tensor):
            found.append(tuple(source.shape))
        elif depth < _DEPTH:
            for item in values_in(value):
                if id(item) not in seen:
                    seen.add(id(item))
                    waiting.append((item, depth + 1))
    return _ordered(found)


def could_be_the_same(port: Shapes, reference: Shapes) -> bool:
    """Whether the port's weights may be the reference's: as many values, but for padding, over some devices."""
    if not port or not reference:
        return True
    here, there = (sum(math.prod(shape) for shape in shapes) for shapes in (port, reference))
    return any(0.8 <= here * devices / there <= 1.25 for devices in _DEVICE_COUNTS)


def are_the_same(port: Shapes, reference: Shapes) -> bool:
    """Whether the weights have the same shapes, transposed or not, or are the same number of values fused otherwise."""
    if not port or not reference:
        return False
    return port == reference or sum(map(math.prod, port)) == sum(map(math.prod, reference))


def _ordered(shapes: Any) -> Shapes:
    return tuple(sorted(tuple(sorted(size for size in shape if size != 1)) for shape in shapes))
