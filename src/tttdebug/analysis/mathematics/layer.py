# SPDX-License-Identifier: Apache-2.0
"""A layer as the sum of the residual stream and what its branches gave; the branches themselves are other calls.

T tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tttdebug.specs import DecoderLayerSpec, EncoderLayerSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.specs import ModuleSpec


@dataclass(frozen=True)
class LayerSteps:
    """How often the layer's input and each branch's output are added: once, if nothing else is said."""

    times_input: float = 1.0
    times: Mapping[str, float] = field(default_factory=dict)


def branches(spec: ModuleSpec | None, parts: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Of what the modules of a layer gave, what is added to the residual stream; nothing where that is not known.

    Where branches end in a norm of their own that is the norm's output, else that of attention and feed-forward.
    """
    if isinstance(spec, EncoderLayerSpec) and spec.norm_position == "post":
        return {}
    of_norms = isinstance(spec, DecoderLayerSpec) and spec.norms_branch_outputs
    added = {
        name: part
        for name, part in parts.items()
        if ("norm" in name) == of_norms and (not of_norms or name.startswith("post"))
    }
    return added if len(added) == 2 else {}


def residual_sum(
    arithmetic: Arithmetic, x_TD: torch.Tensor, added: Mapping[str, torch.Tensor], steps: LayerSteps = LayerSteps()
) -> torch.Tensor:
    """The layer's output [T, D] from its input and what its branches gave, both [T, D]."""
    total_TD = steps.times_input * x_TD
    for name, part_TD in added.items():
        total_TD = arithmetic.rounded(total_TD + steps.times.get(name, 1.0) * part_TD.float())
    return total_TD
