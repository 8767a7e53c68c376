# SPDX-License-Identifier: Apache-2.0
"""A head over a large vocabulary, narrowed to runs of its tokens: some that stand for all, and those that err most.

T tokens, V vocabulary, N runs of neighbours in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tttdebug.specs import LMHeadSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.module_call import ModuleCall

_WIDEST = 8192
_RUN = 64  # neighbours in the vocabulary: whole blocks that share an exponent
_WORST = 8  # runs that are kept because they err most: a block of logits that is wrong must be seen
_TOKENS = 32  # of which it is seen


def narrowed(call: ModuleCall) -> ModuleCall:
    """The same call with some of the logits where there are many; any other call as it is."""
    return narrowed_alike([call])[0]


def narrowed_alike(calls: Sequence[ModuleCall]) -> list[ModuleCall]:
    """Calls of one module, all with the same of their logits where there are many; calls of any other as they are."""
    import torch

    width = min((min(call.port_TC.shape[1], call.reference_TC.shape[1]) for call in calls), default=0)
    if width <= _WIDEST or not all(isinstance(call.spec, LMHeadSpec) for call in calls):
        return list(calls)
    spread_N = torch.linspace(0, width // _RUN - 1, _WIDEST // _RUN // 2).long()
    runs_N = torch.cat([spread_N, _worst_runs(calls, width)]).unique()
    kept_V = (runs_N[:, None] * _RUN + torch.arange(_RUN)).flatten()
    return [_with(call, kept_V) for call in calls]


def _with(call: ModuleCall, kept_V: torch.Tensor) -> ModuleCall:
    assert isinstance(call.spec, LMHeadSpec)
    return replace(
        call,
        spec=replace(call.spec, vocab_size=len(kept_V), padded_vocab_size=len(kept_V)),
        weights={name: weight[kept_V] for name, weight in call.weights.items()},
        reference_TC=call.reference_TC[:, kept_V],
        port_TC=call.port_TC[:, kept_V],
        whole=call,
        kept_C=kept_V,
    )


def _worst_runs(calls: Sequence[ModuleCall], width: int) -> torch.Tensor:
    """The runs with the greatest error over the first tokens of all calls."""
    import torch

    off_V = torch.zeros(width)
    for call in calls:
        off_TV = call.port_TC[:_TOKENS, :width].float() - call.reference_TC[:_TOKENS, :width].float()
        off_V += off_TV.square().sum(0).nan_to_num(nan=torch.inf)
    off_N = off_V[: width // _RUN * _RUN].unflatten(0, (-1, _RUN)).sum(1)
    return off_N.topk(_WORST).indices
