# SPDX-License-Identifier: Apache-2.0
"""A language-model head over a large vocabulary, narrowed to runs of its tokens that stand for all.

D hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tttdebug.specs import LMHeadSpec

if TYPE_CHECKING:
    from tttdebug.analysis.module_call import ModuleCall

_WIDEST = 8192
_RUN = 64  # neighbours in the vocabulary: whole blocks that share an exponent


def narrowed(call: ModuleCall) -> ModuleCall:
    """The same call with some of the logits where there are many; any other call as it is."""
    import torch

    spec = call.spec
    if not isinstance(spec, LMHeadSpec) or call.port_TC.shape[1] <= _WIDEST:
        return call
    starts = torch.linspace(0, spec.padded_vocab_size // _RUN - 1, _WIDEST // _RUN // 2).long() * _RUN
    kept = (starts[:, None] + torch.arange(_RUN)).flatten()
    kept = kept[kept < min(call.port_TC.shape[1], call.reference_TC.shape[1])]
    return replace(
        call,
        spec=replace(spec, vocab_size=len(kept), padded_vocab_size=len(kept)),
        weights={name: weight[kept] for name, weight in call.weights.items()},
        reference_TC=call.reference_TC[:, kept],
        port_TC=call.port_TC[:, kept],
    )
