# SPDX-License-Identifier: Apache-2.0
"""What the formats of a port's weights leave of the reference's, told by an audit where the port declares nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tttdebug.tracking.floor import DeclaredWeight

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.weight_audit import Audit


def weights_as_held(audit: Audit, state: Mapping[str, torch.Tensor]) -> dict[str, DeclaredWeight]:
    """The reference's weights in the formats in which the port holds them, under the reference's names.

    A matrix is taken to lie as [in, out], as ttnn.linear takes it, so that block formats share exponents along its
    outputs. How its products are read and added up is not known of such a port.
    """
    from tttdebug.emulator.formats import FORMATS

    held: dict[str, DeclaredWeight] = {}
    for finding in audit.findings:
        for name in finding.source.split(" = "):  # tied weights are one tensor
            if finding.dtype in FORMATS and name in state and state[name].is_floating_point():
                weight = state[name].detach().float()
                values = FORMATS[finding.dtype].quantise(weight.T if weight.ndim == 2 else weight)
                held[name] = DeclaredWeight(values.T if weight.ndim == 2 else values, _as_it_is)
    return held


def _as_it_is(x: torch.Tensor) -> torch.Tensor:
    return x
