# SPDX-License-Identifier: Apache-2.0
"""Matrix products at the speed of torch: operands cut as the fidelity cuts them (see fpu.py), sums in fp32.

Not modelled is what a bfloat16 Dest does inside one K block: the unit rounds there after every 16 products, ties away
from zero, which adds some noise and up to a few per cent of growth in long blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.dtypes import TILE
from tttdebug.emulator.engines.fpu import SRC_A_ALL, SRC_A_FIRST, SRC_B_FIRST, to_source
from tttdebug.emulator.formats import BFLOAT4_B, BFLOAT16, BlockFormat, Format
from tttdebug.emulator.kernel import MathFidelity
from tttdebug.emulator.plans import MatmulPlan
from tttdebug.emulator.rounding import truncate_fraction


def matrix_product(a: Tensor, b: Tensor, plan: MatmulPlan, *, stays_in_dest: bool = False) -> Tensor:
    """a @ b as `plan` cuts K into blocks.

    With fp32 Dest the sum is fp32, or the bfloat16 that the packer makes of it unless it `stays_in_dest`; with bfloat16
    Dest each K block is rounded once and the packer adds blocks in bfloat16.
    """
    fp32 = plan.kernel.fp32_dest
    a, b = to_source(a, fp32_dest=fp32), to_source(b, fp32_dest=fp32)
    fidelity = _sufficient_fidelity(plan.kernel.fidelity, plan.in0, plan.in1)
    if fp32:
        packed = plan.output is BFLOAT16 and not stays_in_dest
        return _product(*cut_operands(a, b, fidelity), torch.bfloat16 if packed else torch.float32)
    if plan.blocking.blocks == 1:
        return _product(*cut_operands(a, b, fidelity), torch.bfloat16)
    return _sum_of_blocks(a, b, fidelity, plan)


def stepwise_product(a: Tensor, b: Tensor, fidelity: MathFidelity) -> Tensor:
    """a @ b into a bfloat16 Dest, which rounds after every 16 products of every phase; for products with short K."""
    a, b = to_source(a, fp32_dest=False).to(torch.float32), to_source(b, fp32_dest=False).to(torch.float32)
    a_first, b_first = truncate_fraction(a, SRC_B_FIRST), truncate_fraction(b, SRC_A_FIRST)
    phases = [(a_first, b_first), (a_first, b - b_first), (a - a_first, b_first), (a - a_first, b - b_first)]
    dest = torch.zeros(*a.shape[:-1], b.shape[-1], device=a.device)
    for tile in range(0, a.shape[-1], TILE):
        for a_part, b_part in phases[: fidelity.value]:
            for start in (tile, tile + TILE // 2):
                lanes = slice(start, start + TILE // 2)
                dest = _add_rounded(dest, a_part[..., lanes] @ b_part[..., lanes, :])
    return dest


def _add_rounded(dest: Tensor, term: Tensor) -> Tensor:
    """Both aligned to 10 bits below the larger exponent, the sum rounded to bfloat16 with ties away from zero."""
    exponent = torch.maximum(dest.view(torch.int32) & 0x7F800000, term.view(torch.int32) & 0x7F800000)
    rounder = exponent.add_((13 << 23) | 1 << 22).view(torch.float32)
    total = (rounder + dest).add_(term).sub_(rounder)
    return total.view(torch.int32).add_(0x8000).bitwise_and_(-0x10000).view(torch.float32)


def cut_operands(a: Tensor, b: Tensor, fidelity: MathFidelity) -> tuple[Tensor, Tensor]:
    """Two matrices whose plain product is what the phases of `fidelity` add up to, `a` in SrcB and `b` in SrcA."""
    if fidelity is MathFidelity.LoFi:
        return truncate_fraction(a, SRC_B_FIRST), truncate_fraction(b, SRC_A_FIRST)
    b_all = truncate_fraction(b, SRC_A_ALL)
    if fidelity is MathFidelity.HiFi4:
        return a, b_all
    a_first = truncate_fraction(a, SRC_B_FIRST)
    if fidelity is MathFidelity.HiFi2:
        return a_first, b_all
    return torch.cat([a_first, a - a_first], -1), torch.cat([b_all, truncate_fraction(b, SRC_A_FIRST)], -2)


def _sum_of_blocks(a: Tensor, b: Tensor, fidelity: MathFidelity, plan: MatmulPlan) -> Tensor:
    """Blocks of K added as partial sums rest between them: in bfloat16 (ties to even), or packed in a block format."""
    width = plan.blocking.in0_block_w * TILE
    spans = [slice(start, start + width) for start in range(0, a.shape[-1], width)]
    blocks = (_product(*cut_operands(a[..., k], b[..., k, :], fidelity), torch.bfloat16) for k in spans)
    total = next(blocks)
    for block in blocks:
        total = total + block
        if isinstance(plan.partials, BlockFormat):
            total = plan.partials.pack(total)
    return total


def _sufficient_fidelity(fidelity: MathFidelity, in0: Format, in1: Format) -> MathFidelity:
    """A fidelity with the same result that needs fewer cuts: block formats leave nothing to some of the phases."""
    narrow_a, narrow_b = isinstance(in0, BlockFormat), in1 is BFLOAT4_B
    a_is_whole = narrow_a or fidelity is MathFidelity.HiFi4 or (fidelity is MathFidelity.HiFi3 and narrow_b)
    b_is_whole = narrow_b or fidelity is not MathFidelity.LoFi
    if b_is_whole:
        return MathFidelity.HiFi4 if a_is_whole else max(fidelity, MathFidelity.HiFi2, key=lambda f: f.value)
    return fidelity


def _product(a: Tensor, b: Tensor, output: torch.dtype) -> Tensor:
    """a @ b with fp32 sums. Torch rounds its bfloat16 result to even where the packer goes away from zero; sums that
    lie exactly between two bfloat16 are too rare to matter."""
    if output == a.dtype == b.dtype == torch.bfloat16 and _multiplies_bfloat16_well(a):
        return a @ b
    return (a.to(torch.float32) @ b.to(torch.float32)).to(output)


def _multiplies_bfloat16_well(x: Tensor) -> bool:
    """Whether torch multiplies bfloat16 matrices with fp32 sums and at speed on the device of `x`."""
    if x.device.type != "cpu":
        return True
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
