# SPDX-License-Identifier: Apache-2.0
"""The units at the speed of torch: operands cut exactly, sums in fp32, functions of fused kernels by torch."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines import fpu
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.matrix_product import matrix_product
from tttdebug.emulator.formats import BFLOAT16
from tttdebug.emulator.kernel import Kernel
from tttdebug.emulator.plans import MatmulPlan
from tttdebug.emulator.rounding import to_bfloat16_ties_away


class FastUnits:
    """See Units."""

    def add(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        return fpu.add(a, b, kernel)

    def subtract(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        return fpu.subtract(a, b, kernel)

    def multiply(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        return fpu.multiply(a, b, kernel)

    def matrix_product(self, a: Tensor, b: Tensor, plan: MatmulPlan, *, bias_follows: bool = False) -> Tensor:
        return matrix_product(a, b, plan, stays_in_dest=bias_follows or plan.activation is not None)

    def sum_rows(self, x: Tensor, kernel: Kernel, scaler: float = 1.0) -> Tensor:
        return fpu.sum_rows(x, kernel, scaler)

    def sum_columns(self, x: Tensor, kernel: Kernel, scaler: float = 1.0) -> Tensor:
        return fpu.sum_columns(x, kernel, scaler)

    def exponential(self, x: Tensor, kernel: Kernel) -> Tensor:
        return torch.exp(x) if kernel.fp32_dest else sfpu.exp_bf16(x)

    def reciprocal(self, x: Tensor, kernel: Kernel) -> Tensor:
        return torch.reciprocal(x) if kernel.fp32_dest else BFLOAT16.pack(sfpu.reciprocal_bf16(x))

    def rsqrt(self, x: Tensor, kernel: Kernel) -> Tensor:
        root = sfpu.rsqrt_approx(x) if kernel.approx else torch.rsqrt(x)
        return root if kernel.fp32_dest else to_bfloat16_ties_away(root).to(torch.float32)
