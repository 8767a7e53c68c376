# SPDX-License-Identifier: Apache-2.0
"""Pairs of columns are turned to the bits of the matrix unit's product, whatever the transform and the numbers."""

import pytest
import torch

from tttdebug.emulator.engines.exact_units import ExactUnits
from tttdebug.emulator.engines.rotation import turned_pairs
from tttdebug.emulator.formats import BFLOAT8_B, BFLOAT16
from tttdebug.emulator.kernel import Arch, Kernel, MathFidelity
from tttdebug.emulator.llama_chain import pair_swap
from tttdebug.emulator.plans import SINGLE_BLOCK, MatmulPlan, RotaryPlan

UNITS = ExactUnits(Arch.WORMHOLE_B0)
EVERY_BFLOAT16 = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).view(-1, 64)
MODERATE = EVERY_BFLOAT16[(EVERY_BFLOAT16.abs() > 2.0**-90).all(-1) & (EVERY_BFLOAT16.abs() < 2.0**90).all(-1)]
UNLIKE_A_SWAP = torch.where(torch.arange(32) % 2 == 0, 0.5, 1.0) * pair_swap()


@pytest.mark.parametrize("fidelity", [f for f in MathFidelity if f is not MathFidelity.Invalid])
@pytest.mark.parametrize("transform", [pair_swap(), UNLIKE_A_SWAP, torch.ones(32, 32)], ids=["swap", "half", "ones"])
@pytest.mark.parametrize("form", [BFLOAT16, BFLOAT8_B])
@pytest.mark.parametrize("fp32_dest", [False, True])
def test_pairs_are_turned_as_the_matrix_unit_does_it(fidelity, transform, form, fp32_dest):
    kernel = Kernel(fidelity, fp32_dest=fp32_dest)
    plan = MatmulPlan(kernel, SINGLE_BLOCK, form, form, form)
    zeros = torch.cat([MODERATE[:8], torch.zeros(8, 64, dtype=torch.bfloat16), -torch.zeros(1, 64).bfloat16()])
    for x in (EVERY_BFLOAT16, MODERATE, zeros):
        product = UNITS.matrix_product(x.unflatten(-1, (2, 32)), transform.bfloat16(), plan)
        turned = turned_pairs(x, transform.bfloat16(), RotaryPlan(kernel, form), UNITS)
        assert turned.dtype == form.storage
        assert torch.equal(turned.view(torch.int16), form.pack(product).flatten(-2).view(torch.int16))
