# SPDX-License-Identifier: Apache-2.0
"""The matrix unit and the vector unit give the words that the vendor's bit-exact simulator gives."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tttdebug.emulator.engines import vector_unit as sfpu
from tttdebug.emulator.engines.elementwise import elementwise
from tttdebug.emulator.engines.exact_units import ExactUnits
from tttdebug.emulator.kernel import Arch, Kernel, MathFidelity
from tttdebug.emulator.plans import Activation

UNITS = ExactUnits(Arch.WORMHOLE_B0)
FIDELITIES = [MathFidelity.LoFi, MathFidelity.HiFi2, MathFidelity.HiFi3, MathFidelity.HiFi4]
BFLOAT16_DEST, FP32_DEST = Kernel(MathFidelity.HiFi4), Kernel(MathFidelity.HiFi4, fp32_dest=True)


def word(bits):
    return torch.tensor([bits & 0xFFFFFFFF], dtype=torch.int64).to(torch.int32).view(torch.float32)


def half(x):
    return int(x.to(torch.float32).view(torch.int32).item()) >> 16 & 0xFFFF


def value(bits):
    return torch.tensor([bits], dtype=torch.int32).to(torch.int16).view(torch.bfloat16)


@pytest.mark.parametrize(
    ("a", "b", "after_each_phase"),
    [
        (1.9921875, 1.9921875, [0x4076, 0x407D, 0x407E, 0x407E]),
        (1.5546875, 1.3203125, [0x3FFC, 0x4003, 0x4004, 0x4004]),
        (1.3125, 7.96875, [0x4127, 0x4127, 0x4128, 0x4128]),
        (-3.640625, 0.298828125, [0xBF8A, 0xBF8B, 0xBF8C, 0xBF8C]),
    ],
)
def test_products_into_a_bfloat16_dest_round_after_every_phase(a, b, after_each_phase):
    a, b = torch.tensor([a]).bfloat16(), torch.tensor([b]).bfloat16()
    assert [half(UNITS.multiply(a, b, Kernel(fidelity))) for fidelity in FIDELITIES] == after_each_phase


@pytest.mark.parametrize(
    ("a", "b", "total"),
    [
        (1.0, 2.0**-8, 0x3F81),
        (1.0, 3 * 2.0**-8, 0x3F82),
        (256.0, 1.0, 0x4381),
        (1.0, -(2.0**-8), 0x3F7F),
        (1.0078125, -1.0, 0x3C00),
        (1e38, 3e38, 0x7F80),
    ],
)
def test_sums_go_away_from_zero_in_ties(a, b, total):
    a, b = torch.tensor([a]).bfloat16(), torch.tensor([b]).bfloat16()
    assert half(UNITS.add(a, b, BFLOAT16_DEST)) == total
    assert half(UNITS.add(b, a, BFLOAT16_DEST)) == total


bfloat16s = st.integers(0x2000, 0x5F00).map(value)


@given(bfloat16s, bfloat16s, st.booleans())
def test_sums_are_within_one_ulp_of_exact_and_products_within_one_and_a_half(a, b, negate):
    b = -b if negate else b
    for computed, exact, ulps in (
        (UNITS.add(a, b, BFLOAT16_DEST), a.double() + b.double(), 1.0),
        (UNITS.multiply(a, b, BFLOAT16_DEST), a.double() * b.double(), 1.5),
    ):
        if exact.abs() > 1e-30:
            assert (computed.double() - exact).abs() <= exact.abs() * ulps * 2.0**-7


@given(bfloat16s, bfloat16s)
def test_a_higher_fidelity_drops_fewer_bits(a, b):
    exact = a.double() * b.double()
    assume(exact.abs() > 2.0**-112)  # of smaller products the later phases fall out of the exponent's range
    errors = [
        ((UNITS.multiply(a, b, Kernel(fidelity, fp32_dest=True)).double() - exact) / exact).abs().item()
        for fidelity in FIDELITIES
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 2.0**-3
    assert errors[-1] == 0


@pytest.mark.parametrize(("small", "total"), [(2.0**-11, 0x3F81), (2.0**-12, 0x3F80), (-(2.0**-11), 0x3F7D)])
def test_a_row_sum_drops_what_is_eleven_bits_below_its_group(small, total):
    row = torch.full((1, 32), small).bfloat16()
    row[0, 0], row[0, 16:] = 1.0, 0.0
    summed = UNITS.sum_rows(row, Kernel(MathFidelity.LoFi))
    assert half(summed) == total


def test_a_bfloat16_dest_gets_stuck_and_an_fp32_dest_does_not():
    """1,024 tiles of sums of 0.5: at 512 the next addend is half a unit and is lost."""
    row = torch.zeros(1, 32 * 1024).bfloat16()
    row[0, ::32] = 1.0
    assert UNITS.sum_rows(row, Kernel(MathFidelity.LoFi)).item() == 512
    assert UNITS.sum_rows(row, Kernel(MathFidelity.LoFi, fp32_dest=True)).item() == 1024


def test_low_fidelity_sums_of_positive_rows_come_out_low():
    row = torch.rand(64, 512).bfloat16() + 0.5
    exact = row.double().sum(-1, keepdim=True)
    shares = {f: (UNITS.sum_rows(row, Kernel(f, fp32_dest=True)) / exact).mean().item() for f in FIDELITIES}
    assert shares[MathFidelity.HiFi2] < 0.999
    assert abs(shares[MathFidelity.HiFi4] - 1) < 0.0003


@given(st.integers(1, 130), st.sampled_from(FIDELITIES))
def test_padding_of_tiles_adds_nothing(width, fidelity):
    row = torch.randn(2, width).bfloat16()
    padded = torch.nn.functional.pad(row, (0, 64))
    for fp32 in (False, True):
        kernel = Kernel(fidelity, fp32_dest=fp32)
        assert torch.equal(UNITS.sum_rows(row, kernel), UNITS.sum_rows(padded, kernel))


@pytest.mark.parametrize(
    ("x", "y", "z", "result"),
    [
        (0x3F800001, 0x3F800001, 0xBF800002, 0x32800000),  # a fused multiply-add of IEEE 754 gives 0x28800000
        (0x3FFFFFFF, 0x3FFFFFFF, 0xC07FFFFE, 0x33000000),
        (0x00800000, 0x3F000000, 0x00000000, 0x00000000),
        (0x80000000, 0x3F800000, 0x00000000, 0x00000000),
    ],
)
def test_the_multiply_add_keeps_27_bits_of_the_product(x, y, z, result):
    computed = sfpu.fma(word(x), word(y), word(z))
    assert int(computed.view(torch.int32)) & 0xFFFFFFFF == result


@given(*[st.floats(-(2.0**50), 2.0**50, width=32, allow_subnormal=False)] * 3)
def test_the_multiply_add_is_within_one_ulp_of_exact_where_nothing_cancels(x, y, z):
    computed = sfpu.fma(*(torch.tensor([v], dtype=torch.float32) for v in (x, y, z))).item()
    exact = x * y + z
    if abs(exact) > 1e-30 and abs(exact) > 0.01 * max(abs(x * y), abs(z)):
        assert abs(computed - exact) <= abs(exact) * 2.0**-23


def test_the_approximate_exponential_is_three_per_cent_off_and_no_more():
    x = torch.linspace(-20, 20, 3001).bfloat16()
    ratio = elementwise(x, Activation("exp", approx=True), fp32_dest=False).double() / x.double().exp()
    assert 0.965 < ratio.min() < 0.975
    assert 1.02 < ratio.max() < 1.035
    assert half(elementwise(torch.zeros(1).bfloat16(), Activation("exp", approx=True), fp32_dest=False)) == 0x3F7A
