# SPDX-License-Identifier: Apache-2.0
"""Products whose sums are kept in bfloat16, made step by step as the port's settings have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.module_call import ReadAs

Multiplier: TypeAlias = "Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]"
GRID = (8, 8)
"""The cores of a Wormhole card: how a product is cut up, and so where a sum is rounded, depends a little on them."""


def low_sums(formats: Mapping[str, ReadAs]) -> dict[str, Multiplier]:
    """The multiplier of each weight whose sums are in bfloat16; the others are not named."""
    from tttdebug.modules.floor_products import bfloat16_sums
    from tttdebug.modules.placement import WeightFormat

    multipliers: dict[str, Multiplier] = {}
    for name, read_as in formats.items():
        if isinstance(read_as, WeightFormat) and (multiplier := bfloat16_sums(read_as, "by_size", GRID)):
            multipliers[name] = multiplier
    return multipliers
