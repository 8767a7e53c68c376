# SPDX-License-Identifier: Apache-2.0
"""The matrix unit's (FPU's) registers: what a source register holds of a tile, and what a phase takes of it.

A product is made in up to four phases. SrcA shows 5 bits of its significand at a time and SrcB 7:

    phase   SrcA           SrcB
    0       first 5 bits   first 7 bits
    1       next 5 bits    first 7 bits
    2       first 5 bits   last 4 bits
    3       next 5 bits    last 4 bits

LoFi runs phase 0, HiFi2 0–1, HiFi3 0–2, HiFi4 all. An elementwise op takes its first operand into SrcA, a matrix
product its right one (the weights); row reductions have the data in SrcB, column reductions in SrcA.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.formats import TF32
from tttdebug.emulator.kernel import Kernel, MathFidelity
from tttdebug.emulator.rounding import to_bfloat16_truncated, truncate_fraction

# Fraction bits (the hidden one not counted) that survive a cut to the first bits, or to all that any phase sees.
SRC_A_FIRST, SRC_A_ALL = 4, 9
SRC_B_FIRST = 6


def to_source(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """A tile in a source register: bfloat16 as it is; fp32 cut to tf32 with fp32 Dest, to bfloat16 without."""
    if x.dtype == torch.bfloat16:
        return x
    return TF32.unpack(x) if fp32_dest else to_bfloat16_truncated(x)


def multiply_into_fp32(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """a·b into an fp32 Dest, a in SrcA and b in SrcB: what the phases add up to needs no rounding there."""
    a = truncate_fraction(to_source(a, fp32_dest=True).to(torch.float32), SRC_A_ALL)
    b = to_source(b, fp32_dest=True).to(torch.float32)
    if kernel.fidelity is MathFidelity.HiFi4:
        return a * b
    b_first = truncate_fraction(b, SRC_B_FIRST)
    if kernel.fidelity is MathFidelity.HiFi2:
        return a * b_first
    a_first = truncate_fraction(a, SRC_A_FIRST)
    return a_first * b_first if kernel.fidelity is MathFidelity.LoFi else a * b_first + a_first * (b - b_first)


def scaler_tile(scaler: float) -> Tensor:
    """A reduction's factor as its bfloat16 tile holds it."""
    return to_bfloat16_truncated(torch.tensor(scaler, dtype=torch.float32)).to(torch.float32)


def max_rows(x: Tensor, *, fp32_scaler: bool = False) -> Tensor:
    """The maximum over the last dimension (kept). It comes back through SrcB and is cut there as the scaler's tile is:
    to bfloat16, or to tf32 with an fp32 scaler."""
    highest = x.amax(-1, keepdim=True).to(torch.float32)
    return truncate_fraction(highest, 10) if fp32_scaler else to_bfloat16_truncated(highest).to(torch.float32)
