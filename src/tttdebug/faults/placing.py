# SPDX-License-Identifier: Apache-2.0
"""Putting another tensor where a module keeps a weight on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from tttdebug.modules.placement import Layout


def held_by(module: Any, name: str) -> str:
    """The attribute, or place in a list, that holds the weight `name`."""
    return next(path for path, names in module.places().items() if name in names)


def place_again(
    module: Any,
    weights: Mapping[str, torch.Tensor],
    layouts: Mapping[str, Layout] | None = None,
    dtype: str | None = None,
) -> None:
    """Place these weights, in the reference's layout, anew; those fused with them stay as they are.

    `layouts` and `dtype` replace those that the module declares, and its declaration stays as it is.
    """
    import torch

    layouts, formats = layouts or {}, module.weight_formats
    for path in dict.fromkeys(held_by(module, name) for name in weights):
        names = module.places()[path]
        parts = [
            layouts.get(name, formats[name].layout).to_port(weights.get(name, module.weight(name))) for name in names
        ]
        on_device = module.ttnn.from_torch(
            parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1),
            dtype=getattr(module.ttnn, dtype or formats[names[0]].dtype),
            layout=module.ttnn.TILE_LAYOUT,
            device=module.device,
        )
        attribute, _, number = path.partition(".")
        if number:
            getattr(module, attribute)[int(number)] = on_device
        else:
            setattr(module, attribute, on_device)


def change_weight(module: Any, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Place `change` of the weight instead of it."""
    place_again(module, {name: change(module.weight(name).clone())})
