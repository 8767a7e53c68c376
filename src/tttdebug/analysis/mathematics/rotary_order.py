# SPDX-License-Identifier: Apache-2.0
"""In which rotary order a reference keeps its keys, read off those of the call, and bringing them into halves.

T tokens, P positions before them, K key/value heads, E head dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tttdebug.analysis.mathematics.attention_steps import AttentionSteps
from tttdebug.analysis.module_call import KeysValues
from tttdebug.specs import AttentionSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.analysis.module_call import ModuleCall


def in_halves(call: ModuleCall, arithmetic: Arithmetic, held: KeysValues | None) -> KeysValues | None:
    """A cache of this call's reference with each head's channels in half-split order, as the mathematics has them.

    Some references turn neighbouring channels together, and cache keys so: the keys that the call wrote tell. Where
    these are not known, the cache is taken as it is.
    """
    if held is None or not _turns_neighbours(call, arithmetic):
        return held
    assert isinstance(call.spec, AttentionSpec)
    return KeysValues(_neighbours_to_halves(held.keys_KPE, call.spec.rotary_dim), held.values_KPE)


def _turns_neighbours(call: ModuleCall, arithmetic: Arithmetic) -> bool:
    if not isinstance(call.spec, AttentionSpec) or call.spec.rope is None or call.reference_fresh is None:
        return False
    return bool(
        arithmetic.memory.products.once(
            "turns neighbours", (call.reference_fresh,), lambda: _looks_turned_by_neighbours(call, arithmetic)
        )
    )


def _looks_turned_by_neighbours(call: ModuleCall, arithmetic: Arithmetic) -> bool:
    from tttdebug.analysis.mathematics.attention import project

    spec, written = call.spec, call.reference_fresh
    assert isinstance(spec, AttentionSpec)
    assert written is not None
    own_KTE = project(spec, arithmetic, call.positions_T, None, AttentionSteps()).keys_KSE
    as_it_is, reordered = written.keys_KPE.float(), _neighbours_to_halves(written.keys_KPE.float(), spec.rotary_dim)
    return own_KTE.shape == as_it_is.shape and bool((own_KTE - reordered).norm() < (own_KTE - as_it_is).norm())


def _neighbours_to_halves(keys_KPE: torch.Tensor, rotary_dim: int) -> torch.Tensor:
    import torch

    turned = keys_KPE[..., :rotary_dim].unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
    return torch.cat([turned, keys_KPE[..., rotary_dim:]], dim=-1)
