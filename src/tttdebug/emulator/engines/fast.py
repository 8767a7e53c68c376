# SPDX-License-Identifier: Apache-2.0
"""TTNN's numerics at the speed of torch: exact storage formats and operand cuts, fp32 sums, the chip's roundings."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines import functions
from tttdebug.emulator.engines import matrix_unit as fpu
from tttdebug.emulator.engines.attention import attend, attend_decode
from tttdebug.emulator.formats import BFLOAT16, FLOAT32, BlockFormat, FloatFormat, Format, IntegerFormat
from tttdebug.emulator.kernel import Arch
from tttdebug.emulator.plans import (
    Activation,
    AttentionPlan,
    BinaryPlan,
    MatmulPlan,
    NormPlan,
    ReducePlan,
    SoftmaxPlan,
    UnaryPlan,
)
from tttdebug.emulator.rounding import to_bfloat16_ties_even, to_bfloat16_truncated, truncate_fraction

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
        return self._activate(x, (plan.activation,), plan.output)

    def binary(self, a: Tensor, b: Tensor | float, plan: BinaryPlan) -> Tensor:
        a = self._activate(a, plan.on_a, plan.a)
        if isinstance(b, Tensor):
            b = self._activate(b, plan.on_b, plan.b)
        if plan.unit == "fpu":
            dest = self._fpu_binary(a, b, plan)
        else:
            dest = functions.BINARY[plan.function](a.float(), b.float() if isinstance(b, Tensor) else b)
            if not plan.kernel.fp32_dest:
                dest = to_bfloat16_ties_even(dest)
        return self._activate(plan.output.pack(dest), plan.after, plan.output)

    def _fpu_binary(self, a: Tensor, b: Tensor | float, plan: BinaryPlan) -> Tensor:
        if plan.function == "multiply":
            return fpu.multiply(a, b if isinstance(b, Tensor) else torch.full_like(a, b), plan.kernel)
        if plan.function == "add":
            return fpu.add(a, b, plan.kernel)
        if plan.function == "subtract":
            return fpu.add(a, -b, plan.kernel)
        return fpu.add(-a, b, plan.kernel)

    def matmul(self, a: Tensor, b: Tensor, bias: Tensor | None, plan: MatmulPlan) -> Tensor:
        dest = fpu.matmul(a, b, plan, in_dest=bias is not None or plan.activation is not None)
        if bias is not None:
            dest = fpu.add(dest, bias, plan.kernel)
        if plan.activation is not None:
            dest = functions.UNARY[plan.activation.name](dest.float(), *plan.activation.parameters)
        return plan.output.pack(dest)

    def reduce(self, x: Tensor, plan: ReducePlan) -> Tensor:
        x = fpu.to_source(x, fp32_dest=plan.kernel.fp32_dest).float() if plan.function == "sum" else x.float()
        if plan.function == "sum" and plan.kernel.phases <= 2:
            x = truncate_fraction(x, fpu.SRC_B_HIGH)
        dest = functions.REDUCTIONS[plan.function](x, plan.dims)
        if plan.scale != 1:
            dest = dest * to_bfloat16_truncated(torch.tensor(plan.scale)).float().item()
        return plan.output.pack(fpu.round_dest(dest, plan.kernel))

    def norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, plan: NormPlan
    ) -> Tensor:
        kernel, between = plan.kernel, FLOAT32 if plan.kernel.fp32_dest else BFLOAT16
        if residual is not None:
            x = between.pack(fpu.add(x, residual, kernel))
        if plan.centred:
            mean = between.pack(fpu.sum_rows(x, kernel).float() / x.shape[-1])
            x = between.pack(fpu.add(x, -mean, kernel))
        squares = between.pack(fpu.multiply(x, x, kernel))
        variance = between.pack(fpu.sum_rows(squares, kernel).float() / x.shape[-1])
        epsilon = to_bfloat16_truncated(torch.tensor(plan.epsilon)).float().item()
        rstd = between.pack(torch.rsqrt(fpu.add(variance, epsilon, kernel).float()))
        y = fpu.multiply(x, rstd, kernel)
        if weight is not None:
            y = fpu.multiply(between.pack(y), weight, kernel)
        if bias is not None:
            y = fpu.add(between.pack(y), bias, kernel)
        return plan.output.pack(y)

    def softmax(self, x: Tensor, plan: SoftmaxPlan) -> Tensor:
        return plan.output.pack(torch.softmax(x.float(), -1))

    def attention(
        self, q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None, plan: AttentionPlan
    ) -> Tensor:
        return attend(q_BHSE, k_BKTE, v_BKTE, mask, plan)

    def attention_decode(
        self, q_BHE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions: list[int], plan: AttentionPlan
    ) -> Tensor:
        return attend_decode(q_BHE, k_BKTE, v_BKTE, positions, plan)

    def rotate_pairs(self, x: Tensor, cos: Tensor, sin: Tensor, transform: Tensor, plan: MatmulPlan) -> Tensor:
        tiles = x.unflatten(-1, (-1, transform.shape[-1]))
        rotated = plan.output.pack(fpu.matmul(tiles, transform, plan, in_dest=False)).flatten(-2)
        return self._add_rotated(x, rotated, cos, sin, plan)

    def rotate_halves(self, x: Tensor, cos: Tensor, sin: Tensor, plan: MatmulPlan) -> Tensor:
        first, second = x.chunk(2, -1)
        return self._add_rotated(x, torch.cat([-second, first], -1), cos, sin, plan)

    def _add_rotated(self, x: Tensor, rotated: Tensor, cos: Tensor, sin: Tensor, plan: MatmulPlan) -> Tensor:
        kernel, between = plan.kernel, plan.partials
        along = between.pack(fpu.multiply(x, cos, kernel))
        across = between.pack(fpu.multiply(rotated, sin, kernel))
        return plan.output.pack(fpu.add(along, across, kernel))

    def _activate(self, x: Tensor, activations: tuple[Activation, ...], form: Format) -> Tensor:
        """Functions of the vector unit one after the other, each packed as `form`."""
        for activation in activations:
            if isinstance(form, IntegerFormat):
                x = functions.UNARY[activation.name](x, *activation.parameters)
            else:
                x = form.pack(functions.UNARY[activation.name](x.float(), *activation.parameters))
        return x
