# SPDX-License-Identifier: Apache-2.0
"""RMS norm, layer norm and softmax in the steps and intermediate formats of ttnn's kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines import fpu
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.units import Units
from tttdebug.emulator.kernel import Kernel
from tttdebug.emulator.plans import NormPlan, SoftmaxPlan
from tttdebug.emulator.rounding import to_bfloat16_ties_even, to_bfloat16_truncated

# A row wider than this many bytes of buffers is squared on the vector unit.
_ROW_BYTES = 1_235_000


def norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, plan: NormPlan, units: Units
) -> Tensor:
    """x · rsqrt(mean(x²) + epsilon) · weight + bias over the last dimension; `plan.centred` takes the mean off first.

    Intermediates are fp32 with fp32 Dest (and read as tf32), bfloat16 without; epsilon is cut to bfloat16.
    """
    kernel = plan.kernel
    if residual is not None:
        x = units.add(x, residual, kernel)
    if plan.centred:
        x = units.subtract(x, _row_mean(x, kernel, units), kernel)
    variance = _row_mean(_squares(x, plan, units), kernel, units)
    epsilon = to_bfloat16_truncated(torch.tensor(plan.epsilon, dtype=torch.float32, device=x.device))
    y = units.multiply(x, units.rsqrt(units.add(variance, epsilon, kernel), kernel), kernel)
    if weight is not None:
        y = units.multiply(y, weight, kernel)
    if bias is not None:
        y = units.add(y, bias, kernel)
    return plan.output.pack(y)


def _row_mean(x: Tensor, kernel: Kernel, units: Units) -> Tensor:
    """The sum of each row times 1/N by the vector unit, whose store to a bfloat16 Dest truncates."""
    mean = units.sum_rows(x, kernel) * torch.tensor(1 / x.shape[-1], dtype=torch.float32)
    return mean if kernel.fp32_dest else to_bfloat16_truncated(mean).to(torch.float32)


def _squares(x: Tensor, plan: NormPlan, units: Units) -> Tensor:
    kernel = plan.kernel
    bytes_per_tile = 14336 if plan.centred else 8192 if kernel.fp32_dest else 6144
    if -(-x.shape[-1] // 32) * bytes_per_tile <= _ROW_BYTES:
        return units.multiply(x, x, kernel)
    squares = x.to(torch.float32).square()
    return squares if kernel.fp32_dest else to_bfloat16_ties_even(squares).to(torch.float32)


def softmax(x: Tensor, plan: SoftmaxPlan, units: Units) -> Tensor:
    """Softmax over the last dimension; maxima pass through bfloat16, exponentials through `plan.intermediate`."""
    kernel = plan.kernel
    if plan.stable:  # the difference goes into the exponential as it lies in Dest
        x = units.subtract(x, fpu.max_rows(x, fp32_scaler=x.dtype == torch.float32), kernel)
    else:
        x = fpu.to_source(x, fp32_dest=True).to(torch.float32)
    exponentials = plan.intermediate.pack(_exponential(x, kernel, units))
    inverse = units.reciprocal(units.sum_rows(exponentials, kernel), kernel)
    return plan.output.pack(units.multiply(exponentials, inverse, kernel))


def _exponential(x: Tensor, kernel: Kernel, units: Units) -> Tensor:
    if kernel.approx:
        return sfpu.exp_approx(x, fp32_dest=kernel.fp32_dest)
    return units.exponential(x, kernel)
