# SPDX-License-Identifier: Apache-2.0
"""A reference's output and the port's in one layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class CacheLayout:
    """How a part of a cache was read: its heads, the position of its first token, and the rotary order of its keys."""

    heads: int
    first_position: int
    interleaved: bool
    rotary_dim: int | None


@dataclass(frozen=True)
class Aligned:
    """Both tensors as [tokens, channels], and what was done to get there.

    `faults` are what is wrong whatever the values are: replicas on the devices of a mesh that differ. `device_TC` says
    which device each value of the port comes from, where it is cut over several; `cache` is of caches only.
    """

    reference_TC: torch.Tensor
    port_TC: torch.Tensor
    adapters: tuple[str, ...]
    faults: tuple[str, ...] = ()
    device_TC: torch.Tensor | None = None
    cache: CacheLayout | None = None
