# SPDX-License-Identifier: Apache-2.0
"""The compiled matrix unit gives the bits of the plain one, for any operands, on any number of threads, on a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import plain_matrix_unit as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.emulator.engines import matrix_unit, matrix_unit_elementwise
from tttdebug.emulator.engines.exact_units import ExactUnits
from tttdebug.emulator.engines.fpu import to_source
from tttdebug.emulator.formats import BFLOAT16
from tttdebug.emulator.kernel import Arch, Kernel, MathFidelity
from tttdebug.emulator.plans import Blocking, MatmulPlan

WORDS = st.integers(0, 2**32 - 1)


def words_with_exponents(smallest, largest):
    fields = (st.integers(0, 1), st.integers(smallest, largest), st.integers(0, 2**23 - 1))
    return st.builds(lambda sign, exponent, fraction: sign << 31 | exponent << 23 | fraction, *fields)


NEAR_ONE, TINY = words_with_exponents(115, 135), words_with_exponents(0, 75)
SPARSE = st.one_of(st.just(0), NEAR_ONE)


def tensor(words, rows):
    bits = torch.tensor([w - 2**32 if w >> 31 else w for w in words], dtype=torch.int64).to(torch.int32)
    return bits.view(torch.float32).view(rows, -1)


def words(x):
    return [int(w) & 0xFFFFFFFF for w in x.contiguous().view(torch.int32).flatten()]


@st.composite
def products(draw):
    """Two rows times two columns with 64 of K, in source registers of either kind, on top of something."""
    kind = draw(st.sampled_from([WORDS, NEAR_ONE, TINY, SPARSE]))
    fp32 = draw(st.booleans())
    left, right = (
        to_source(tensor(draw(st.lists(kind, min_size=128, max_size=128)), rows), fp32_dest=fp32) for rows in (2, 64)
    )
    dest = tensor(draw(st.lists(st.one_of(st.just(0), kind), min_size=4, max_size=4)), 2)
    dest = torch.where(dest.abs() < 2.0**-126, 0.0, dest) if fp32 else to_source(dest, fp32_dest=False).float()
    return left, right, torch.where(dest.abs() < 2.0**-126, 0.0, dest), fp32


@settings(max_examples=60, deadline=None)
@given(products(), st.integers(1, 4), st.booleans(), st.booleans())
def test_every_product_has_the_plain_units_bits(product, phases, wormhole, halves_first):
    left, right, dest, fp32 = product
    rows, columns = left.float(), right.float().T
    how = {"phases": phases, "wormhole": wormhole, "halves_first": halves_first}
    expected = [
        plain.dot(words(row), words(column), words(dest[m, n])[0], fp32=fp32, **how)
        for m, row in enumerate(rows)
        for n, column in enumerate(columns)
    ]
    matrix_unit.multiply_into(dest, left, right, fp32_dest=fp32, **how)
    assert [hex(w) for w in words(dest)] == [hex(w) for w in expected]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=40), st.integers(1, 4), st.booleans())
def test_elementwise_sums_and_products_have_the_plain_units_bits(pairs, phases, fp32):
    a, b = (to_source(tensor(side, 1), fp32_dest=fp32).float() for side in zip(*pairs, strict=True))
    sums, products = [], []
    for x, y in zip(words(a), words(b), strict=True):
        sums.append(plain.add_to_dest([plain_sum(x, y), (0, 0)], 0, fp32=fp32, wormhole=False))
        dest = 0
        for phase in range(phases):
            dest = plain.add_to_dest([plain.group_sum([x], [y], phase), (0, 0)], dest, fp32=fp32, wormhole=False)
        products.append(dest)
    assert words(matrix_unit_elementwise.add(a, b, fp32_dest=fp32)) == sums
    assert words(matrix_unit_elementwise.multiply(a, b, phases=phases, fp32_dest=fp32)) == products


def plain_sum(x, y):
    """Both significands at the larger exponent, as one term of Dest."""
    numbers = [plain.fields(word) for word in (x, y)]
    top = max(exponent for _, exponent, _ in numbers)
    parts = [plain.half_away(m, min(top - exponent, 24)) for _, exponent, m in numbers]
    return sum(-part if sign else part for part, (sign, _, _) in zip(parts, numbers, strict=True)), top


@pytest.mark.parametrize("wormhole", [True, False])
def test_wormholes_adder_takes_minus_one_for_sixteen(wormhole):
    """#38306: (1 − 2⁻²³) − 1 in an fp32 Dest gives −16 on Wormhole and −2⁻²³ on Blackhole."""
    dest = tensor([0x3F7FFFFE], 1)
    matrix_unit.multiply_into(
        dest, torch.tensor([[1.0]]), torch.tensor([[-1.0]]), phases=1, fp32_dest=True, wormhole=wormhole
    )
    assert words(dest) == [0xC1800000 if wormhole else 0xB4000000]


def test_a_bfloat16_dest_grows_and_then_sticks():
    """Each step adds 1.0: from 512 on the sum cannot take it any more."""
    dest = torch.zeros(1, 1)
    ones = torch.zeros(1, 32)
    ones[0, [0, 16]] = 1.0
    for _ in range(512):
        matrix_unit.multiply_into(dest, ones, torch.ones(32, 1), phases=1, fp32_dest=False, wormhole=True)
    assert dest.item() == 512


def test_threads_and_blocks_do_not_change_a_bit():
    left, right = torch.randn(70, 200), torch.randn(200, 300)
    results = []
    threads = torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        dest = torch.zeros(70, 300)
        matrix_unit.multiply_into(dest, left, right, phases=4, fp32_dest=True, wormhole=True)
        results.append(dest)
    torch.set_num_threads(threads)
    one = torch.zeros(1, 1)
    matrix_unit.multiply_into(one, left[69:], right[:, 299:], phases=4, fp32_dest=True, wormhole=True)
    assert torch.equal(results[0], results[1])
    assert one.item() == results[0][69, 299].item()


@pytest.mark.parametrize("repeated", [0, 1, 5, 7])
def test_rows_that_repeat_the_last_one_come_out_as_if_multiplied(repeated):
    units, kernel = ExactUnits(Arch.WORMHOLE_B0), Kernel(MathFidelity.HiFi2, l1_acc=True)
    plan = MatmulPlan(kernel, Blocking("1d", 1, 4, True), BFLOAT16, BFLOAT16, BFLOAT16)
    left, right = torch.randn(8, 128).bfloat16(), torch.randn(128, 70).bfloat16()
    left[8 - repeated :] = left[-1]
    rows = torch.cat([units.matrix_product(row[None], right, plan) for row in left])
    assert torch.equal(units.matrix_product(left, right, plan), rows)


def test_a_nan_in_the_last_row_leaves_the_shape_as_it_is():
    left = torch.ones(4, 32)
    left[-1, 0] = torch.nan
    plan = MatmulPlan(Kernel(MathFidelity.HiFi2), Blocking("1d", 1, 1, False), BFLOAT16, BFLOAT16, BFLOAT16)
    product = ExactUnits(Arch.WORMHOLE_B0).matrix_product(left.bfloat16(), torch.ones(32, 8).bfloat16(), plan)
    assert product[:, 0].abs().tolist() == [32, 32, 32, torch.inf]


def test_the_kernels_for_gpus_give_the_same_bits():
    """In Triton's own interpreter, which needs no GPU."""
    if find_spec("triton") is None:
        if os.environ.get("CI"):
            pytest.fail("triton is not installed")
        pytest.skip("pip install triton runs the kernels for GPUs in its interpreter")
    script = Path(__file__).with_name("gpu_kernels_on_cpu.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "same bits" in done.stdout


@st.composite
def wide_products(draw):
    """Three rows times 130 columns with 64 of K, some zeros among them, their exponents and Dest's spread as drawn."""
    left_exponents, right_exponents, dest_exponents = (
        draw(st.sampled_from([(127, 1), (127, 30), (60, 20), (20, 20), (190, 60)])) for _ in range(3)
    )
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def words_around(exponents, rows, columns):
        middle, spread = exponents
        field = torch.randint(max(middle - spread, 1), min(middle + spread, 255), (rows, columns), generator=random)
        rest = torch.randint(0, 2**8, (rows, columns), generator=random)
        bits = (rest >> 7 << 15 | field << 7 | rest & 127).to(torch.int16)
        bits[torch.rand(rows, columns, generator=random) < 0.1] = 0
        return bits.view(torch.bfloat16)

    left, right = words_around(left_exponents, 3, 64), words_around(right_exponents, 64, 130)
    return left, right, words_around(dest_exponents, 3, 130).float()


@settings(max_examples=60, deadline=None)
@given(wide_products(), st.integers(1, 4), st.booleans())
def test_a_bfloat16_dest_has_the_same_bits_in_wide_products_and_column_by_column(product, phases, halves_first):
    left, right, dest = product
    how = {"phases": phases, "fp32_dest": False, "wormhole": True, "halves_first": halves_first}
    columns = [column.clone() for column in dest.split(1, -1)]
    for column, start in zip(columns, right.split(1, -1), strict=True):
        matrix_unit.multiply_into(column, left, start, **how)
    matrix_unit.multiply_into(dest, left, right, **how)
    assert words(dest) == words(torch.cat(columns, -1))


@pytest.mark.parametrize("power", [1, 2, 4, 8, 12, 13, 14, 15, 16])
def test_sums_far_below_what_a_bfloat16_dest_aligns_to_are_rounded_twice(power):
    """Whole group sums around every tie; the other group cancels to zero, but 2^power is the last bit kept."""
    near_ties = [middle + off for middle in (4096, 8192, 12288, 15700) for off in range(-5, 6)]
    sums = [sign * size for size in near_ties + list(range(16370, 16390)) for sign in (1, -1)]
    sums += [0] * (130 - len(sums))
    left = torch.zeros(1, 32)
    left[0, :8] = torch.tensor([127.0, 127, 127, 127, 64, 1, 1, 1])
    right = torch.zeros(32, len(sums))
    for n, total in enumerate(sums):
        whole = min(abs(total) // 127, 124)
        rest = abs(total) - 127 * whole
        counts = [min(31, max(0, whole - 31 * lane)) for lane in range(4)] + [rest // 64]
        counts += [min(31, max(0, rest % 64 - 31 * lane)) for lane in range(3)]
        right[:8, n] = torch.tensor(counts).float() * (1 if total > 0 else -1)
    assert (left @ right)[0].int().tolist() == sums
    left[0, 8:10], right[8], right[9] = 2.0 ** (power + 10), 1.0, -1.0
    left /= 2**20  # away from exponents that only the other loops take
    dest = -to_source(torch.tensor([sums]) / 2**20, fp32_dest=False).float()
    expected = [
        plain.dot(words(left[0]), words(column), before, phases=1, fp32=False, wormhole=True)
        for column, before in zip(right.T, words(dest), strict=True)
    ]
    matrix_unit.multiply_into(dest, left, right, phases=1, fp32_dest=False, wormhole=True)
    assert words(dest) == expected


@pytest.mark.parametrize("power", [0, 1, 2])
def test_groups_that_all_but_cancel_have_the_same_bits_in_wide_products_and_column_by_column(power):
    """What is left of them shows how the last bit of large sums, halfway between two, was rounded."""
    random = torch.Generator().manual_seed(power)
    left, right = torch.zeros(8, 32), torch.zeros(32, 128)
    left[:, : 2**power] = torch.randint(96, 128, (8, 1), generator=random).float()
    right[: 2**power] = torch.randint(24, 32, (128,), generator=random).float()
    left[:, 7], right[7] = 1, torch.randint(0, 32, (128,), generator=random).float()
    left[:, 8], right[8] = left[:, 0] * 2**power, -right[0]
    dest = torch.zeros(8, 128)
    columns = [column.clone() for column in dest.split(1, -1)]
    for column, start in zip(columns, right.split(1, -1), strict=True):
        matrix_unit.multiply_into(column, left, start, phases=1, fp32_dest=False, wormhole=True)
    matrix_unit.multiply_into(dest, left, right, phases=1, fp32_dest=False, wormhole=True)
    assert words(dest) == words(torch.cat(columns, -1))
    assert dest.count_nonzero() > 0
