# SPDX-License-Identifier: Apache-2.0
"""TTNN's numerics: formats, packing, each op on its unit, the kernels' steps; `units` says how true the sums are."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines import functions
from tttdebug.emulator.engines.attention import attend
from tttdebug.emulator.engines.attention_decode import attend_decode
from tttdebug.emulator.engines.elementwise import Binary, elementwise, on_vector_unit, scalar_operand
from tttdebug.emulator.engines.normalization import norm, softmax
from tttdebug.emulator.engines.reduction import reduce
from tttdebug.emulator.engines.rotation import turned_pairs
from tttdebug.emulator.engines.units import Units
from tttdebug.emulator.formats import BFLOAT16, FLOAT32, BlockFormat, FloatFormat, Format, IntegerFormat
from tttdebug.emulator.kernel import Arch
from tttdebug.emulator.plans import (
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


class ChipEngine:
    """The engine of a chip, whose units are those of `fast` or of `exact`."""

    def __init__(self, name: str, arch: Arch, units: Units) -> None:
        self.name = name
        self.arch = arch
        self.units = units
        self._on_vector_unit = on_vector_unit(arch)
        self._on_matrix_unit: dict[str, Binary] = {
            "add": units.add,
            "subtract": units.subtract,
            "rsub": lambda a, b, kernel: units.subtract(b, a, kernel),
            "multiply": units.multiply,
        }

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
        table = self._on_matrix_unit if plan.unit == "fpu" else self._on_vector_unit
        values = plan.output.pack(table[function](a, b, plan.kernel))
        for activation in plan.after:
            values = self._apply(values, activation, plan.output)
        return values

    def matmul(self, a: Tensor, b: Tensor, bias: Tensor | None, plan: MatmulPlan) -> Tensor:
        dest = self.units.matrix_product(a, b, plan, bias_follows=bias is not None)
        if bias is not None:
            dest = self.units.add(dest, bias, plan.kernel)
        if plan.activation is not None:
            dest = elementwise(dest, plan.activation, fp32_dest=plan.kernel.fp32_dest, arch=self.arch)
        return plan.output.pack(dest)

    def reduce(self, x: Tensor, plan: ReducePlan) -> Tensor:
        return plan.output.pack(reduce(x, plan, self.units))

    def norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, plan: NormPlan
    ) -> Tensor:
        return norm(x, weight, bias, residual, plan, self.units)

    def softmax(self, x: Tensor, plan: SoftmaxPlan) -> Tensor:
        return softmax(x, plan, self.units)

    def attention(
        self, q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan
    ) -> Tensor:
        return attend(q_BHSE, k_BKTE, v_BKTE, mask, plan, self.units)

    def attention_decode(
        self, q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan
    ) -> Tensor:
        return attend_decode(q_BHE, k_BKTE, v_BKTE, positions, plan, self.units)

    def rotate_pairs(self, x: Tensor, cos: Tensor, sin: Tensor, transform: Tensor, plan: RotaryPlan) -> Tensor:
        rotated = turned_pairs(x, transform, plan, self.units)
        return self._add_rotated(x, rotated, cos, sin, plan)

    def rotate_halves(self, x: Tensor, cos: Tensor, sin: Tensor, plan: RotaryPlan) -> Tensor:
        first, second = x.chunk(2, -1)
        return self._add_rotated(x, torch.cat([-second, first], -1), cos, sin, plan)

    def _apply(self, x: Tensor, activation: Activation, form: Format) -> Tensor:
        """A function of the vector unit, packed as `form`."""
        if isinstance(form, IntegerFormat):
            return form.quantise(functions.UNARY[activation.name](x, *activation.parameters))
        return form.pack(elementwise(x, activation, fp32_dest=form is FLOAT32, arch=self.arch))

    def _add_rotated(self, x: Tensor, rotated: Tensor, cos: Tensor, sin: Tensor, plan: RotaryPlan) -> Tensor:
        """x·cos + rotated·sin, each product and the sum packed."""
        kernel, pack = plan.kernel, plan.output.pack
        along, across = self.units.multiply(x, cos, kernel), self.units.multiply(rotated, sin, kernel)
        return pack(self.units.add(pack(along), pack(across), kernel))
