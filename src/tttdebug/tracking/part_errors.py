# SPDX-License-Identifier: Apache-2.0
"""The error of parts of a compared pair: of a cache's heads at each position, and of what each device holds."""

# T tokens, K key/value heads, E head dimension, C = K·E channels

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tttdebug.tracking.head_order import rotate_heads, unrotate_heads
from tttdebug.tracking.profile import ErrorProfile, HeadErrors, ShardError

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.aligned import Aligned, CacheLayout

_DIGITS = 4


def with_parts(profile: ErrorProfile, aligned: Aligned, *, keys: bool = False) -> ErrorProfile:
    """The profile with the errors of the heads and devices that `aligned` knows of; `keys` have a rotary order."""
    heads = None if aligned.cache is None else _head_errors(aligned, aligned.cache, keys)
    return replace(profile, heads=heads, shards=_shard_errors(aligned))


def _head_errors(aligned: Aligned, cache: CacheLayout, keys: bool) -> HeadErrors:
    reference_TKE, port_TKE = (side.unflatten(-1, (cache.heads, -1)) for side in _in_float64(aligned))
    errors = _rel_l2_per_head(reference_TKE, port_TKE)
    if not keys:
        return HeadErrors(cache.first_position, errors)
    reorder = rotate_heads if cache.interleaved else unrotate_heads
    other_TKE = reorder(port_TKE, cache.rotary_dim)
    whole = float((other_TKE - reference_TKE).norm() / reference_TKE.norm())
    return HeadErrors(
        cache.first_position,
        errors,
        read_as="interleaved" if cache.interleaved else "halves",
        other_order=_rel_l2_per_head(reference_TKE, other_TKE),
        other_order_rel_l2=whole,
    )


def _rel_l2_per_head(reference_TKE: torch.Tensor, port_TKE: torch.Tensor) -> tuple[tuple[float, ...], ...]:
    """rel_l2[head][token], in four digits: there are as many as a sixty-fourth of the cache's values."""
    error_KT = (port_TKE - reference_TKE).norm(dim=-1).T
    ratio_KT = error_KT / reference_TKE.norm(dim=-1).T
    ratio_KT[error_KT == 0] = 0.0
    return tuple(tuple(float(f"{value:.{_DIGITS}g}") for value in row) for row in ratio_KT.tolist())


def _shard_errors(aligned: Aligned) -> tuple[ShardError, ...]:
    if aligned.device_TC is None:
        return ()
    reference_TC, port_TC = _in_float64(aligned)
    error_TC, truth_TC = (port_TC - reference_TC).square(), reference_TC.square()
    found = []
    for device in aligned.device_TC.unique().tolist():
        held_TC = aligned.device_TC == device
        error, truth = float(error_TC[held_TC].sum()), float(truth_TC[held_TC].sum())
        found.append(ShardError(int(device), math.sqrt(error / truth) if truth else 0.0 if error == 0 else math.inf))
    return tuple(found)


def _in_float64(aligned: Aligned) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference and port, on the port's device."""
    return aligned.reference_TC.to(aligned.port_TC.device).double(), aligned.port_TC.double()
