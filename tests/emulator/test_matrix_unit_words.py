# SPDX-License-Identifier: Apache-2.0
"""The exact matrix unit gives the words that the vendor's bit-exact simulator gives, on both chips."""

import pytest
import torch

from tttdebug.emulator.engines.exact_units import ExactUnits
from tttdebug.emulator.kernel import Arch, Kernel, MathFidelity
from tttdebug.emulator.rounding import pack_bfloat16

WORMHOLE, BLACKHOLE = Arch.WORMHOLE_B0, Arch.BLACKHOLE
FIDELITIES = [MathFidelity.LoFi, MathFidelity.HiFi2, MathFidelity.HiFi3, MathFidelity.HiFi4]


def word(bits):
    return torch.tensor([[bits if bits < 1 << 31 else bits - (1 << 32)]], dtype=torch.int32).view(torch.float32)


def bits(x):
    return int(x.to(torch.float32).view(torch.int32).flatten()[0]) & 0xFFFFFFFF


def product(left, right, kernel, dest=None, arch=WORMHOLE):
    """A dot product of 32 bfloat16 numbers on top of Dest."""
    padded = [torch.nn.functional.pad(x, (0, 32 - x.numel())).bfloat16() for x in (left, right)]
    return ExactUnits(arch).into_dest(padded[0][None], padded[1][:, None], kernel, dest)


k = torch.arange(32)
IN0 = 1 + (k % 8) / 128
IN1 = torch.where(k % 3 == 0, -1.0, 1.0) * (1 + 5 * (k % 16) / 128)


@pytest.mark.parametrize("arch", [WORMHOLE, BLACKHOLE])
@pytest.mark.parametrize(
    ("fidelity", "in_bfloat16", "in_fp32", "packed"),
    [
        (MathFidelity.LoFi, 0x414D, 0x414D3000, 0x414D),
        (MathFidelity.HiFi2, 0x4151, 0x41510500, 0x4151),
        (MathFidelity.HiFi3, 0x4152, 0x4151F500, 0x4152),
        (MathFidelity.HiFi4, 0x4152, 0x4151F980, 0x4152),
    ],
)
def test_a_dot_product_of_a_tile(fidelity, in_bfloat16, in_fp32, packed, arch):
    assert bits(product(IN0, IN1, Kernel(fidelity), arch=arch)) >> 16 == in_bfloat16
    fp32 = product(IN0, IN1, Kernel(fidelity, fp32_dest=True), arch=arch)
    assert bits(fp32) == in_fp32
    assert bits(pack_bfloat16(fp32)) >> 16 == packed


@pytest.mark.parametrize(
    ("fidelity", "in_bfloat16", "in_fp32"), [(FIDELITIES[0], 0x414B, 0x414B0000), (FIDELITIES[1], 0x4151, 0x41513300)]
)
def test_the_operands_roles_are_not_alike(fidelity, in_bfloat16, in_fp32):
    assert bits(product(IN1, IN0, Kernel(fidelity))) >> 16 == in_bfloat16
    assert bits(product(IN1, IN0, Kernel(fidelity, fp32_dest=True))) == in_fp32


@pytest.mark.parametrize(
    ("small", "in_fp32", "in_bfloat16"),
    [(2.0**-11, 0x3F816000, 0x3F81), (2.0**-12, 0x3F804000, 0x3F80), (-(2.0**-11), 0x3F7D4000, 0x3F7D)],
)
def test_small_products_are_rounded_beside_a_large_one(small, in_fp32, in_bfloat16):
    left, right = torch.ones(16), torch.full((16,), small)
    right[0] = 1.0
    assert bits(product(left, right, Kernel(MathFidelity.LoFi, fp32_dest=True))) == in_fp32
    assert bits(product(left, right, Kernel(MathFidelity.LoFi))) >> 16 == in_bfloat16


def accumulate(addend, steps):
    """Dest after each of so many steps, whose 16 products have this sum."""
    kernel, dest = Kernel(MathFidelity.LoFi), torch.zeros(1, 1)
    after = [0.0]
    for _ in range(steps):
        dest = product(torch.full((16,), addend / 16), torch.ones(16), kernel, dest)
        after.append(dest.item())
    return after


def test_a_bfloat16_dest_goes_astray_and_gets_stuck():
    ones = accumulate(1.0, 1024)
    assert [ones[n] for n in (256, 257, 258, 512, 1024)] == [256, 258, 260, 512, 512]
    quarters = accumulate(0.75, 1024)
    assert [quarters[n] for n in (128, 256, 512, 1024)] == [106.5, 234, 512, 512]


@pytest.mark.parametrize(("dest", "addend", "result"), [(256, 1, 0x4381), (258, 1, 0x4382), (-258, -1, 0xC382)])
def test_one_step_goes_away_from_zero(dest, addend, result):
    after = product(
        torch.tensor([float(addend)]), torch.ones(1), Kernel(MathFidelity.LoFi), torch.tensor([[float(dest)]])
    )
    assert bits(after) >> 16 == result


@pytest.mark.parametrize(
    ("dest", "arch", "result"),
    [
        (0x3F7FFFFE, WORMHOLE, 0xC1800000),  # −2⁻²³ comes out as −16
        (0x3F7FFFFE, BLACKHOLE, 0xB4000000),
        (0x3F800001, WORMHOLE, 0x34000000),
        (0x3F800001, BLACKHOLE, 0x34000000),
    ],
)
def test_wormholes_adder_mistakes_a_last_bit(dest, arch, result):
    kernel = Kernel(MathFidelity.LoFi, fp32_dest=True)
    assert bits(product(torch.ones(1), -torch.ones(1), kernel, word(dest), arch)) == result
