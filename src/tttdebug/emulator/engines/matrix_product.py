# SPDX-License-Identifier: Apache-2.0
"""Matrix products into an fp32 Dest at the speed of torch: operands cut as the fidelity cuts them (see fpu.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from tttdebug.emulator.engines.fpu import SRC_A_ALL, SRC_A_FIRST, SRC_B_FIRST, to_source
from tttdebug.emulator.formats import BFLOAT4_B, BFLOAT16, BlockFormat, Format
from tttdebug.emulator.kernel import MathFidelity
from tttdebug.emulator.plans import MatmulPlan
from tttdebug.emulator.rounding import truncate_fraction


def matrix_product(a: Tensor, b: Tensor, plan: MatmulPlan, *, stays_in_dest: bool = False) -> Tensor:
    """a @ b into an fp32 Dest; in fp32, or the bfloat16 that the packer makes of it unless it `stays_in_dest`."""
    a, b = to_source(a, fp32_dest=True), to_source(b, fp32_dest=True)
    fidelity = _sufficient_fidelity(plan.kernel.fidelity, plan.in0, plan.in1)
    packed = plan.output is BFLOAT16 and not stays_in_dest
    return _product(*_cut_operands(a, b, fidelity), torch.bfloat16 if packed else torch.float32)


def _cut_operands(a: Tensor, b: Tensor, fidelity: MathFidelity) -> tuple[Tensor, Tensor]:
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
