# SPDX-License-Identifier: Apache-2.0
"""The mathematics of a call: its module by the spec, fed with the call's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tttdebug.analysis.mathematics.arithmetic import Arithmetic, Numbers
from tttdebug.analysis.mathematics.attention import attention
from tttdebug.analysis.mathematics.attention_steps import AttentionSteps
from tttdebug.analysis.mathematics.ends import EmbeddingSteps, HeadSteps, embed, logits
from tttdebug.analysis.mathematics.feed_forward import FeedForwardSteps, feed_forward
from tttdebug.analysis.mathematics.layer import LayerSteps, branches, residual_sum
from tttdebug.analysis.mathematics.mixture import MixtureSteps, mixture
from tttdebug.analysis.mathematics.norm import NormSteps, norm
from tttdebug.analysis.mathematics.rotary_order import in_halves
from tttdebug.errors import SpecError
from tttdebug.specs import (
    AttentionSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    EncoderLayerSpec,
    FeedForwardSpec,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    ModuleSpec,
    NormSpec,
)

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.memory import Memory
    from tttdebug.analysis.module_call import ModuleCall

_STEPS: dict[type[ModuleSpec], type] = {
    AttentionSpec: AttentionSteps,
    FeedForwardSpec: FeedForwardSteps,
    MixtureOfExpertsSpec: MixtureSteps,
    NormSpec: NormSteps,
    EmbeddingSpec: EmbeddingSteps,
    LMHeadSpec: HeadSteps,
    DecoderLayerSpec: LayerSteps,
    EncoderLayerSpec: LayerSteps,
}


def computes(call: ModuleCall) -> bool:
    """Whether there is mathematics for this call: a layer needs what its branches gave."""
    return type(call.spec) in _STEPS and (call.kind != "layer" or bool(branches(call.spec, call.parts)))


def default_steps(spec: ModuleSpec) -> Any:
    """The steps of a module of this spec, none of them changed. Raises SpecError for a spec without mathematics."""
    if type(spec) not in _STEPS:
        raise _no_mathematics(spec)
    return _STEPS[type(spec)]()


def compute(call: ModuleCall, spec: ModuleSpec, arithmetic: Arithmetic, steps: Any) -> torch.Tensor:
    """What a module of this spec gives for the call's input, [T, C], fp32, for the tokens that the memory asks for.

    Raises SpecError for a spec without mathematics, WeightsError for a missing weight.
    """
    memory = arithmetic.memory
    x_TD, positions_T = memory.asked_TD, memory.asked(call.positions_T)
    match spec:
        case AttentionSpec():
            return attention(spec, arithmetic, call.positions_T, in_halves(call, sound(call, memory), call.past), steps)
        case FeedForwardSpec():
            return feed_forward(spec, arithmetic, x_TD, steps)
        case MixtureOfExpertsSpec():
            return mixture(spec, arithmetic, x_TD, steps)
        case NormSpec():
            return norm(spec, arithmetic, x_TD, steps)
        case EmbeddingSpec():
            return embed(spec, arithmetic, x_TD, positions_T, steps)
        case LMHeadSpec():
            return logits(spec, arithmetic, x_TD, steps)
        case DecoderLayerSpec() | EncoderLayerSpec():
            added = {name: memory.asked(part) for name, part in branches(spec, call.parts).items()}
            return residual_sum(arithmetic, x_TD, added, steps)
        case _:
            raise _no_mathematics(spec)


def sound(call: ModuleCall, memory: Memory) -> Arithmetic:
    """The call's own weights in its own formats."""
    return Arithmetic(call.weights, Numbers(call.formats), memory)


def _no_mathematics(spec: ModuleSpec) -> SpecError:
    known = ", ".join(spec_class.__name__ for spec_class in _STEPS)
    return SpecError(f"there is no mathematics for {type(spec).__name__}: give the spec of {known}")
