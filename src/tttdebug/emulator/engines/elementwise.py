# SPDX-License-Identifier: Apache-2.0
"""Elementwise functions and binary ops as Dest keeps them, each on the unit that ttnn gives it to.

A function of one bfloat16 has 65,536 possible arguments: the vector unit computes each of them once, and a tensor is
then a look-up. fp32 tensors go through the unit's steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from tttdebug.emulator.engines import functions, vector_binary
from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.kernel import Arch, Kernel
from tttdebug.emulator.plans import Activation
from tttdebug.emulator.rounding import to_bfloat16_ties_away, to_bfloat16_ties_even, to_bfloat16_truncated

_CHEAPER_THAN_A_TABLE = frozenset({"identity", "relu", "neg", "abs"})


def elementwise(x: Tensor, activation: Activation, *, fp32_dest: bool, arch: Arch = Arch.WORMHOLE_B0) -> Tensor:
    """The function of every element as Dest keeps it (fp32, or a bfloat16)."""
    if activation.name in _CHEAPER_THAN_A_TABLE:
        return functions.UNARY[activation.name](x)
    if fp32_dest or x.dtype != torch.bfloat16:
        dest = _kernel(activation, arch, fp32_dest=fp32_dest)(x.to(torch.float32))
        return dest if fp32_dest else to_bfloat16_truncated(dest)
    index = x.contiguous().view(torch.int16).to(torch.int32).bitwise_and_(0xFFFF)
    return _table(activation, arch, x.device).index_select(0, index.view(-1)).view(x.shape)


@lru_cache(maxsize=256)
def _table(activation: Activation, arch: Arch, device: torch.device) -> Tensor:
    """What a bfloat16 Dest keeps of the function of every bfloat16, by bit pattern; NaN as infinity of its sign."""
    arguments = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    values = to_bfloat16_truncated(_kernel(activation, arch, fp32_dest=False)(arguments.to(torch.float32)))
    infinite = torch.copysign(torch.full_like(values, torch.inf), values)
    return torch.where(values.isnan(), infinite, values).to(device)


def _kernel(activation: Activation, arch: Arch, *, fp32_dest: bool) -> Callable[[Tensor], Tensor]:
    """The steps of a function; those whose steps are not modelled are correctly rounded."""
    kernels = sfpu.kernels(arch, approx=activation.approx)
    if activation.name in kernels:
        kernel = kernels[activation.name][fp32_dest]
        return lambda x: kernel(x, *activation.parameters)

    def rounded(x: Tensor) -> Tensor:
        exact = functions.UNARY[activation.name](x.to(torch.float64), *activation.parameters).to(torch.float32)
        return exact if fp32_dest else to_bfloat16_ties_away(exact).to(torch.float32)

    return rounded


def scalar_operand(value: float, function: str, like: Tensor) -> tuple[Tensor, str]:
    """A scalar as the chip gets it, in the tensor's type, and the function it goes into.

    Dividing a bfloat16 tensor by a scalar is multiplying it by the reciprocal that the vector unit makes.
    """
    scalar = torch.tensor(value, dtype=torch.float32).to(like.dtype)
    if function == "divide" and like.dtype == torch.bfloat16:
        return sfpu.reciprocal_fp32(scalar.to(torch.float32)).to(like.device), "multiply"
    return scalar.to(like.device), function


Binary = Callable[[Tensor, Tensor, Kernel], Tensor]


def on_vector_unit(arch: Arch) -> dict[str, Binary]:
    """By name the ops of two operands on a chip's vector unit; those whose steps are not modelled round once."""
    return {name: _binary(name, function, arch) for name, function in functions.BINARY.items()}


def _binary(name: str, function: Callable[[Tensor, Tensor], Tensor], arch: Arch) -> Binary:
    kernel = vector_binary.KERNELS.get(name)

    def compute(a: Tensor, b: Tensor, config: Kernel) -> Tensor:
        a, b = a.to(torch.float32), b.to(torch.float32)
        if kernel is not None:
            return kernel(a, b, config.fp32_dest, arch)
        dest = function(a, b)
        return dest if config.fp32_dest else to_bfloat16_ties_even(dest)

    return compute
