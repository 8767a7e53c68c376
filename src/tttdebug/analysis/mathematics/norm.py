# SPDX-License-Identifier: Apache-2.0
"""Normalisation over the last dimension, with what a port may do otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.mathematics.arithmetic import Arithmetic
    from tttdebug.modules.hardware import ComputeKernel
    from tttdebug.specs import NormSpec


@dataclass(frozen=True)
class NormSteps:
    """Steps of a norm that the spec leaves no choice about: squares are averaged, gain and bias are applied.

    `kernel` are the settings with which ttnn's norm runs; None: plain arithmetic.
    """

    sums_squares: bool = False
    applies_gain: bool = True
    applies_bias: bool = True
    kernel: ComputeKernel | None = None


def norm(spec: NormSpec, arithmetic: Arithmetic, x: torch.Tensor, steps: NormSteps = NormSteps()) -> torch.Tensor:
    """x […, D] normalised, same shape. Raises WeightsError for a missing gain or bias."""
    if steps.kernel is not None:
        return _emulated(spec, arithmetic, x, steps.kernel)
    if spec.norm_type == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    squares = x.square().sum(-1, keepdim=True)
    if not steps.sums_squares:
        squares = squares / x.shape[-1]
    out = x / (squares + spec.eps).sqrt()
    if steps.applies_gain:
        out = out * (arithmetic.weight("weight") + float(spec.unit_offset))
    if spec.bias and steps.applies_bias:
        out = out + arithmetic.weight("bias")
    return arithmetic.rounded(out)


def _emulated(spec: NormSpec, arithmetic: Arithmetic, x: torch.Tensor, kernel: ComputeKernel) -> torch.Tensor:
    """The same as ttnn's norm computes it under these settings, whatever fidelity its weight is said to be read at."""
    import torch

    from tttdebug.emulator import open_device, ttnn

    device = open_device("fast")

    def placed(values: torch.Tensor) -> ttnn.Tensor:
        return ttnn.from_torch(values, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)

    rows_11XD = x.reshape(1, 1, -1, x.shape[-1])
    padded_11XD = torch.nn.functional.pad(rows_11XD, (0, 0, 0, -rows_11XD.shape[2] % 32))
    gain_111D = (arithmetic.raw("weight") + float(spec.unit_offset)).reshape(1, 1, 1, -1)
    settings = {"epsilon": spec.eps, "weight": placed(gain_111D), "compute_kernel_config": kernel.to_ttnn(ttnn)}
    if spec.bias:
        settings["bias"] = placed(arithmetic.raw("bias").reshape(1, 1, 1, -1))
    op = ttnn.layer_norm if spec.norm_type == "layernorm" else ttnn.rms_norm
    return ttnn.to_torch(op(placed(padded_11XD), **settings)).float()[0, 0, : rows_11XD.shape[2]].reshape(x.shape)
