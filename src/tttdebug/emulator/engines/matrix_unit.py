# SPDX-License-Identifier: Apache-2.0
"""The matrix unit (FPU) at the speed of torch: operands cut as the fidelity phases cut them, sums in fp32.

A product is made in up to four phases. SrcA shows 5 bits of its significand at a time and SrcB 7:

    phase   SrcA           SrcB
    0       first 5 bits   first 7 bits
    1       next 5 bits    first 7 bits
    2       first 5 bits   last 4 bits
    3       next 5 bits    last 4 bits

LoFi runs phase 0, HiFi2 0–1, HiFi3 0–2, HiFi4 all. A matrix product takes the left operand into SrcB and the right one
(the weights) into SrcA; an elementwise op takes its first operand into SrcA.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.formats import BFLOAT4_B, BFLOAT16, BlockFormat, truncate_tf32
from tttdebug.emulator.kernel import Kernel, MathFidelity
from tttdebug.emulator.plans import MatmulPlan
from tttdebug.emulator.rounding import to_bfloat16_ties_away, to_bfloat16_truncated, truncate_fraction

# Fraction bits (the hidden one not counted) that survive a cut.
SRC_A_HIGH, SRC_A_ALL = 4, 9
SRC_B_HIGH, SRC_B_ALL = 6, 10


def to_source(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """A tile in a source register: bfloat16 as it is; fp32 cut to tf32 with fp32 Dest, to bfloat16 without."""
    if x.dtype == torch.bfloat16:
        return x
    return truncate_tf32(x) if fp32_dest else to_bfloat16_truncated(x)


def round_dest(x: Tensor, kernel: Kernel) -> Tensor:
    """What Dest keeps of a result."""
    return x if kernel.fp32_dest else to_bfloat16_ties_away(x)


def cut_operands(a: Tensor, b: Tensor, fidelity: MathFidelity) -> tuple[Tensor, Tensor]:
    """Two matrices whose plain product is what the phases of `fidelity` add up to, `a` in SrcB and `b` in SrcA."""
    if fidelity is MathFidelity.LoFi:
        return truncate_fraction(a, SRC_B_HIGH), truncate_fraction(b, SRC_A_HIGH)
    if fidelity is MathFidelity.HiFi2:
        return truncate_fraction(a, SRC_B_HIGH), truncate_fraction(b, SRC_A_ALL)
    b_all = truncate_fraction(b, SRC_A_ALL)
    if fidelity is MathFidelity.HiFi4:
        return a, b_all
    a_high = truncate_fraction(a, SRC_B_HIGH)
    return torch.cat([a_high, a - a_high], -1), torch.cat([b_all, truncate_fraction(b, SRC_A_HIGH)], -2)


def matmul(a: Tensor, b: Tensor, plan: MatmulPlan, *, in_dest: bool) -> Tensor:
    """a @ b as `plan` blocks it.

    With fp32 Dest the sum is fp32 (or, when nothing follows in Dest, already the bfloat16 that the packer makes of it);
    with bfloat16 Dest each K block is rounded once, and the packer adds blocks in bfloat16.
    """
    kernel = plan.kernel
    a, b = to_source(a, fp32_dest=kernel.fp32_dest), to_source(b, fp32_dest=kernel.fp32_dest)
    fidelity = _sufficient_fidelity(plan)
    if kernel.fp32_dest:
        a, b = cut_operands(a, b, fidelity)
        if a.dtype == b.dtype == torch.bfloat16 and plan.output is BFLOAT16 and not in_dest and _fast_bfloat16(a):
            return a @ b
        return a.to(torch.float32) @ b.to(torch.float32)
    if plan.blocks == 1:
        return _product(*cut_operands(a, b, fidelity))
    return _accumulate_blocks(a, b, fidelity, plan, bias_follows=in_dest)


def _accumulate_blocks(a: Tensor, b: Tensor, fidelity: MathFidelity, plan: MatmulPlan, *, bias_follows: bool) -> Tensor:
    width = plan.in0_block_w * TILE
    spans = [slice(start, start + width) for start in range(0, a.shape[-1], width)]
    blocks = (_product(*cut_operands(a[..., k], b[..., k, :], fidelity)) for k in spans)
    partial = next(blocks)
    for block in blocks:
        partial = partial + block  # bfloat16: ties to even, as the packer's accumulator rounds
        if not plan.l1_acc and isinstance(plan.partials, BlockFormat):
            partial = plan.partials.pack(partial)
    return partial


def _sufficient_fidelity(plan: MatmulPlan) -> MathFidelity:
    """The cheapest fidelity that gives the same product: later phases see only zeros of narrow formats."""
    fidelity = plan.kernel.fidelity
    narrow_a, narrow_b = isinstance(plan.in0, BlockFormat), plan.in1 is BFLOAT4_B
    if narrow_a or narrow_b:
        if fidelity in (MathFidelity.HiFi3, MathFidelity.HiFi4):
            return MathFidelity.HiFi4
        if narrow_a and narrow_b or fidelity is MathFidelity.HiFi2 and narrow_a:
            return MathFidelity.HiFi4
        return MathFidelity.HiFi2 if narrow_b else fidelity
    return fidelity


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype == torch.bfloat16 and _fast_bfloat16(a):
        return a @ b
    return (a.to(torch.float32) @ b.to(torch.float32)).to(torch.bfloat16)


def _fast_bfloat16(x: Tensor) -> bool:
    """Whether torch multiplies bfloat16 matrices with fp32 sums and at speed on the device of `x`."""
    return x.device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def multiply(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """Elementwise product, `a` in SrcA and `b` in SrcB, as Dest keeps it."""
    a = to_source(a, fp32_dest=kernel.fp32_dest).to(torch.float32)
    b = to_source(b, fp32_dest=kernel.fp32_dest).to(torch.float32)
    fidelity = kernel.fidelity
    if fidelity is MathFidelity.HiFi4:
        product = truncate_fraction(a, SRC_A_ALL) * b
    else:
        b_high = truncate_fraction(b, SRC_B_HIGH)
        product = truncate_fraction(a, SRC_A_HIGH if fidelity is MathFidelity.LoFi else SRC_A_ALL) * b_high
        if fidelity is MathFidelity.HiFi3:
            product += truncate_fraction(a, SRC_A_HIGH) * (b - b_high)
    return round_dest(product, kernel)


def add(a: Tensor, b: Tensor | float, kernel: Kernel) -> Tensor:
    """Elementwise sum as Dest keeps it."""
    a = to_source(a, fp32_dest=kernel.fp32_dest).to(torch.float32)
    if isinstance(b, Tensor):
        b = to_source(b, fp32_dest=kernel.fp32_dest).to(torch.float32)
    return round_dest(a + b, kernel)


def sum_rows(x: Tensor, kernel: Kernel) -> Tensor:
    """The sum over the last dimension, kept: data in SrcB, a column of ones in SrcA, so LoFi and HiFi2 cut the data."""
    x = to_source(x, fp32_dest=kernel.fp32_dest).to(torch.float32)
    if kernel.phases <= 2:
        x = truncate_fraction(x, SRC_B_HIGH)
    return round_dest(x.sum(-1, keepdim=True), kernel)
