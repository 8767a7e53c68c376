# SPDX-License-Identifier: Apache-2.0
"""TTNN's numerics at the speed of torch: exact storage formats and operand cuts, fp32 sums, the chip's roundings."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines import fpu, functions
from tttdebug.emulator.engines.attention import attend, attend_decode
from tttdebug.emulator.engines.elementwise import BINARY_UNITS, elementwise, scalar_operand
from tttdebug.emulator.engines.matrix_product import matrix_product
from tttdebug.emulator.engines.normalization import norm, softmax
from tttdebug.emulator.engines.reduction import reduce
from tttdebug.emulator.formats import BFLOAT16, FLOAT32, BlockFormat, FloatFormat, Format, IntegerFormat
from tttdebug.emulator.kernel import Arch
from tttdebug.emulator.plans import (
    SINGLE_BLOCK,
    Activation,
    AttentionPlan,
    BinaryPlan,
    MatmulPlan,
    NormPlan,
    ReducePlan,
    RotaryPlan,
    SoftmaxPlan,
    UnaryPlan,
)
from tttdebug.emulator.rounding import to_bfloat16_ties_even

# B batch, H query heads, K key/value heads, S query positions, T key positions, E head dim


class FastEngine:
    """The default engine."""

    name = "fast"

    def __init__(self, arch: Arch) -> None:
        self.arch = arch

    def hold(self, x: Tensor, form: Format) -> Tensor:
        return form.quantise(x)

    def cast(self, x: Tensor, source: Format, target: Format) -> Tensor:
        if isinstance(target, BlockFormat):
            return target.pack(x, precise=target.magnitude_bits == 7)
        if target is BFLOAT16 and source is FLOAT32:
            return BFLOAT16.pack(to_bfloat16_ties_even(x))
        if isinstance(target, FloatFormat) and isinstance(source, FloatFormat):
            return target.pack(x)
        return target.quantise(x)

    def repack(self, x: Tensor, form: Format) -> Tensor:
        return form.pack(x)

    def unary(self, x: Tensor, plan: UnaryPlan) -> Tensor:
        return self._apply(x, plan.activation, plan.output)

    def binary(self, a: Tensor, b: Tensor | float, plan: BinaryPlan) -> Tensor:
        for activation in plan.on_a:
            a = self._apply(a, activation, plan.a)
        function = plan.function
        if isinstance(plan.a, IntegerFormat):
            return plan.output.quantise(functions.BINARY[function](a, b))
        if isinstance(b, Tensor):
            for activation in plan.on_b:
                b = self._apply(b, activation, plan.b)
        else:
            b, function = scalar_operand(b, function, a)
        values = plan.output.pack(BINARY_UNITS[plan.unit][function](a, b, plan.kernel))
        for activation in plan.after:
            values = self._apply(values, activation, plan.output)
        return values

    def matmul(self, a: Tensor, b: Tensor, bias: Tensor | None, plan: MatmulPlan) -> Tensor:
        dest = matrix_product(a, b, plan, stays_in_dest=bias is not None or plan.activation is not None)
        if bias is not None:
            dest = fpu.add(dest, bias, plan.kernel)
        if plan.activation is not None:
            dest = elementwise(dest, plan.activation, fp32_dest=plan.kernel.fp32_dest)
        return plan.output.pack(dest)

    def reduce(self, x: Tensor, plan: ReducePlan) -> Tensor:
        return plan.output.pack(reduce(x, plan))

    def norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, plan: NormPlan
    ) -> Tensor:
        return norm(x, weight, bias, residual, plan)

    def softmax(self, x: Tensor, plan: SoftmaxPlan) -> Tensor:
        return softmax(x, plan)

    def attention(
        self, q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan
    ) -> Tensor:
        return attend(q_BHSE, k_BKTE, v_BKTE, mask, plan)

    def attention_decode(
        self, q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan
    ) -> Tensor:
        return attend_decode(q_BHE, k_BKTE, v_BKTE, positions, plan)

    def rotate_pairs(self, x: Tensor, cos: Tensor, sin: Tensor, transform: Tensor, plan: RotaryPlan) -> Tensor:
        tiles = x.unflatten(-1, (-1, transform.shape[-1]))
        form = plan.output
        product = MatmulPlan(plan.kernel, SINGLE_BLOCK, form, form, form)
        rotated = form.pack(matrix_product(tiles, transform, product)).flatten(-2)
        return _add_rotated(x, rotated, cos, sin, plan)

    def rotate_halves(self, x: Tensor, cos: Tensor, sin: Tensor, plan: RotaryPlan) -> Tensor:
        first, second = x.chunk(2, -1)
        return _add_rotated(x, torch.cat([-second, first], -1), cos, sin, plan)

    def _apply(self, x: Tensor, activation: Activation, form: Format) -> Tensor:
        """A function of the vector unit, packed as `form`."""
        if isinstance(form, IntegerFormat):
            return form.quantise(functions.UNARY[activation.name](x, *activation.parameters))
        return form.pack(elementwise(x, activation, fp32_dest=form is FLOAT32))


def _add_rotated(x: Tensor, rotated: Tensor, cos: Tensor, sin: Tensor, plan: RotaryPlan) -> Tensor:
    """x·cos + rotated·sin, each product and the sum packed."""
    kernel = plan.kernel
    along, across = fpu.multiply(x, cos, kernel), fpu.multiply(rotated, sin, kernel)
    return plan.output.pack(fpu.add(plan.output.pack(along), plan.output.pack(across), kernel))
