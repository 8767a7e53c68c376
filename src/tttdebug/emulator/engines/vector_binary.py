# SPDX-License-Identifier: Apache-2.0
"""The vector unit's ops of two operands: ttnn's kernels for sums, products, quotients, powers and extrema.

Operands and results are fp32; a result for a bfloat16 Dest comes as the bfloat16 that the kernel's own code rounds it
to, ties to even.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tttdebug.emulator.engines import vector_arithmetic as unit
from tttdebug.emulator.engines.powers import power_bf16, power_fp32
from tttdebug.emulator.engines.reciprocals import BLACKHOLE_RECIPROCALS, WORMHOLE_RECIPROCALS, divide_bf16, divide_fp32
from tttdebug.emulator.kernel import Arch
from tttdebug.emulator.rounding import flush_denormals, to_bfloat16_ties_even

Kernel = Callable[[Tensor, Tensor, bool, Arch], Tensor]


def add(a: Tensor, b: Tensor, fp32_dest: bool, arch: Arch) -> Tensor:
    total = unit.add(a, b)
    return total if fp32_dest else to_bfloat16_ties_even(total)


def subtract(a: Tensor, b: Tensor, fp32_dest: bool, arch: Arch) -> Tensor:
    return add(a, -b, fp32_dest, arch)


def reverse_subtract(a: Tensor, b: Tensor, fp32_dest: bool, arch: Arch) -> Tensor:
    return add(b, -a, fp32_dest, arch)


def multiply(a: Tensor, b: Tensor, fp32_dest: bool, arch: Arch) -> Tensor:
    """a·b; zero times anything is zero with a bfloat16 Dest, as on the matrix unit."""
    if fp32_dest:
        return unit.multiply(a, b)
    product = flush_denormals(flush_denormals(a) * flush_denormals(b))  # exact: two significands of 8 bits
    return to_bfloat16_ties_even(torch.where((a == 0) | (b == 0), 0.0, product))


def divide(a: Tensor, b: Tensor, fp32_dest: bool, arch: Arch) -> Tensor:
    reciprocals = WORMHOLE_RECIPROCALS if arch is Arch.WORMHOLE_B0 else BLACKHOLE_RECIPROCALS
    if fp32_dest:
        return divide_fp32(a, b, reciprocals)
    return divide_bf16(a, b, reciprocals).to(torch.bfloat16)


def _by_sign_and_size(x: Tensor) -> Tensor:
    """Words in the order of the unit's exchange: −NaN, −∞ … −0, +0 … +∞, +NaN."""
    bits = x.contiguous().view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def maximum(a: Tensor, b: Tensor, fp32_dest: bool, arch: Arch) -> Tensor:
    a, b = torch.broadcast_tensors(a, b)
    return torch.where(_by_sign_and_size(a) >= _by_sign_and_size(b), a, b)


def minimum(a: Tensor, b: Tensor, fp32_dest: bool, arch: Arch) -> Tensor:
    a, b = torch.broadcast_tensors(a, b)
    return torch.where(_by_sign_and_size(a) <= _by_sign_and_size(b), a, b)


def power(a: Tensor, b: Tensor, fp32_dest: bool, arch: Arch) -> Tensor:
    return power_fp32(a, b) if fp32_dest else power_bf16(a, b).to(torch.bfloat16)


KERNELS: dict[str, Kernel] = {
    "add": add,
    "subtract": subtract,
    "rsub": reverse_subtract,
    "multiply": multiply,
    "divide": divide,
    "maximum": maximum,
    "minimum": minimum,
    "pow": power,
}
