# SPDX-License-Identifier: Apache-2.0
"""The units with matrix products and functions by torch wherever Dest is fp32, operands cut exactly.

A bfloat16 Dest rounds after every 16 products, and its noise and growth come from nothing but these roundings: there,
and in the sums of rows and columns, the units are the exact ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines import fpu
from tttdebug.emulator.engines.exact_units import ExactUnits
from tttdebug.emulator.engines.matrix_product import matrix_product
from tttdebug.emulator.kernel import Kernel
from tttdebug.emulator.plans import MatmulPlan


class FastUnits(ExactUnits):
    """See Units."""

    def multiply(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        return fpu.multiply_into_fp32(a, b, kernel) if kernel.fp32_dest else super().multiply(a, b, kernel)

    def matrix_product(self, a: Tensor, b: Tensor, plan: MatmulPlan, *, bias_follows: bool = False) -> Tensor:
        if not plan.kernel.fp32_dest:
            return super().matrix_product(a, b, plan, bias_follows=bias_follows)
        return matrix_product(a, b, plan, stays_in_dest=bias_follows or plan.activation is not None)

    def exponential(self, x: Tensor, kernel: Kernel) -> Tensor:
        return torch.exp(x) if kernel.fp32_dest else super().exponential(x, kernel)

    def reciprocal(self, x: Tensor, kernel: Kernel) -> Tensor:
        return torch.reciprocal(x) if kernel.fp32_dest else super().reciprocal(x, kernel)

    def rsqrt(self, x: Tensor, kernel: Kernel) -> Tensor:
        return torch.rsqrt(x) if kernel.fp32_dest and not kernel.approx else super().rsqrt(x, kernel)
