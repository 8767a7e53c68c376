# SPDX-License-Identifier: Apache-2.0
"""What the engines differ in: the few operations of the chip's units that `fast` approximates and `exact` does not.

Everything else is shared: formats, maxima, the vector unit's other functions, the steps and buffers of each kernel.
Results are what Dest keeps: fp32 tensors, which hold bfloat16 values when Dest is bfloat16.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tttdebug.emulator.kernel import Kernel
from tttdebug.emulator.plans import MatmulPlan


class Units(Protocol):
    """The matrix unit, and the vector unit's functions inside fused kernels."""

    def add(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        """a + b on the matrix unit."""

    def subtract(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        """a − b on the matrix unit."""

    def multiply(self, a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
        """a·b on the matrix unit, a in SrcA and b in SrcB."""

    def matrix_product(self, a: Tensor, b: Tensor, plan: MatmulPlan, *, bias_follows: bool = False) -> Tensor:
        """a @ b over the last two dimensions, K cut as `plan` says. Partial sums rest elsewhere when a bias follows."""

    def sum_rows(self, x: Tensor, kernel: Kernel, scaler: float = 1.0, *, half_tiles: bool = False) -> Tensor:
        """The sum over the last dimension (kept) times `scaler`: data in SrcB, the scaler in SrcA.

        Tiles of 16 rows take their two faces one after the other."""

    def sum_columns(self, x: Tensor, kernel: Kernel, scaler: float = 1.0) -> Tensor:
        """The sum over the second-last dimension (kept) times `scaler`: data in SrcA, the scaler in SrcB."""

    def exponential(self, x: Tensor, kernel: Kernel) -> Tensor:
        """exp, accurate; not rounded further in an fp32 Dest."""

    def reciprocal(self, x: Tensor, kernel: Kernel) -> Tensor:
        """1/x as softmax takes it."""

    def rsqrt(self, x: Tensor, kernel: Kernel) -> Tensor:
        """1/√x as the norms take it; the approximate one when the kernel approximates."""
