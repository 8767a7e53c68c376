# SPDX-License-Identifier: Apache-2.0
"""The steps of attention that a spec leaves no choice about, and what a port may do instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tttdebug.analysis.mathematics.emulated_attention import AttentionKernel
    from tttdebug.analysis.module_call import KeysValues

Mask = Literal["declared", "none"]
HeadOrder = Literal["blocked", "tiled"]


@dataclass(frozen=True)
class AttentionSteps:
    """What attention does where the spec says only that it does so; the defaults are what it means.

    `mask`            declared: as the spec; none: every query sees every position
    `mask_shift`      how many positions beyond its own a causal mask lets a query see: -1 not even its own
    `window_shift`    by how many positions a sliding window begins later
    `kv_of_query`     blocked: query head h reads key/value head h // (H/K); tiled: h % K; or the head of each
    `head_order`      the query heads in the order in which their outputs stand before the output projection
    `padding_keys`    keys of zeros, with values of zeros, that every query sees besides
    `turns_…`, `…_shift`, `backwards`   which of queries and keys turn, by positions off by how many, and which way
    `norms_…`         whether the spec's norm of heads is applied to queries and to keys
    `own_written`     whether the call's last key and value are where they belong; before: one position before
    `own_found`       what stands in their place otherwise; None: zeros
    `step_at`         by how many positions the whole call is off, in rotation, mask and cache alike
    `behind`          keys and values after the call's own that every query sees too
    `edit_past`       the cache before the call as the port finds it
    `own_cached_as`   what the cache keeps of the keys and values that a step writes
    `kernel`          the settings with which ttnn's attention kernel runs; None: plain arithmetic
    """

    mask: Mask = "declared"
    mask_shift: int = 0
    window_shift: int = 0
    kv_of_query: HeadOrder | tuple[int, ...] = "blocked"
    head_order: tuple[int, ...] | None = None
    padding_keys: int = 0
    turns_queries: bool = True
    turns_keys: bool = True
    query_shift: int = 0
    key_shift: int = 0
    backwards: bool = False
    norms_queries: bool = True
    norms_keys: bool = True
    own_written: bool | Literal["before"] = True
    own_found: KeysValues | None = None
    step_at: int = 0
    behind: KeysValues | None = None
    edit_past: Callable[[KeysValues], KeysValues] | None = None
    own_cached_as: Callable[[KeysValues], KeysValues] | None = None
    kernel: AttentionKernel | None = None
