# SPDX-License-Identifier: Apache-2.0
"""Formats hold what the chip holds: idempotent, symmetric, never further off than half a step, groups apart."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tttdebug.emulator.formats import BFLOAT4_B, BFLOAT8_B, BFLOAT16, FLOAT32, FORMATS, INT32, UINT16, UINT32

BLOCKS = [BFLOAT8_B, BFLOAT4_B]
moderate = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
any_float = st.floats(width=32, allow_nan=False)
rows = arrays(np.float32, (3, 48), elements=moderate)


def bits(x):
    return x.contiguous().view(torch.int16 if x.dtype == torch.bfloat16 else torch.int32)


@given(rows, st.sampled_from([BFLOAT8_B, BFLOAT4_B, BFLOAT16, FLOAT32]))
def test_quantising_twice_changes_nothing(x, form):
    once = form.quantise(torch.from_numpy(x))
    assert torch.equal(bits(form.quantise(once)), bits(once))


@given(rows, st.sampled_from([BFLOAT8_B, BFLOAT4_B, BFLOAT16]))
def test_signs_mirror_values(x, form):
    x = torch.from_numpy(x)
    assert torch.equal(form.quantise(-x), -form.quantise(x))
    assert torch.equal(form.pack(-x), -form.pack(x))


@given(rows, st.sampled_from(BLOCKS), st.integers(0, 2))
def test_groups_of_sixteen_do_not_see_each_other(x, form, group):
    x = torch.from_numpy(x)
    others = x.clone()
    mine = slice(16 * group, 16 * group + 16)
    others[:, [i for i in range(48) if i not in range(48)[mine]]] *= 2.0**20
    assert torch.equal(form.quantise(others)[:, mine], form.quantise(x)[:, mine])
    assert torch.equal(form.pack(others)[:, mine], form.pack(x)[:, mine])


@given(rows, st.sampled_from(BLOCKS))
def test_a_block_value_is_off_by_half_a_step_unless_it_saturates(x, form):
    exponents, _ = form.encode(torch.from_numpy(x))
    step = torch.ldexp(torch.ones(9, 1, dtype=torch.float64), exponents - 127 - (form.magnitude_bits - 1))
    exact = torch.from_numpy(x).double().view(9, 16)
    off = (form.quantise(torch.from_numpy(x)).double().view(9, 16) - exact).abs()
    saturated = exact.abs() > form.largest_code * step
    cut = 2.0**-17 * step  # what the alignment truncates before it rounds
    assert ((off <= step / 2 + cut) | saturated).all()
    assert (off <= step).all()


@given(arrays(np.float32, (64,), elements=any_float))
def test_bfloat16_on_the_host_rounds_as_ml_dtypes_does(x):
    theirs = x.astype(ml_dtypes.bfloat16).view(np.int16)
    assert np.array_equal(bits(BFLOAT16.quantise(torch.from_numpy(x))).numpy(), theirs)


@given(arrays(np.float32, (64,), elements=moderate))
def test_the_packer_differs_from_the_host_in_ties_only(x):
    x = torch.from_numpy(x)
    packed, quantised = BFLOAT16.pack(x), BFLOAT16.quantise(x)
    tie = bits(x) & 0xFFFF == 0x8000
    assert torch.equal(packed[~tie] + 0, quantised[~tie] + 0)
    assert (packed[tie].abs() > x[tie].abs()).all()


@given(arrays(np.float32, (2, 32), elements=moderate))
def test_packing_a_block_value_again_keeps_it(x):
    """A bfloat8_b tensor that only passes through a kernel comes out unchanged."""
    once = BFLOAT8_B.quantise(torch.from_numpy(x))
    assert torch.equal(BFLOAT8_B.pack(once), once)
    assert torch.equal(BFLOAT8_B.pack(once, precise=True), once)


# A group of 16 with its shared exponent and codes as the host's packing function of ttnn 0.81.1 and the chip's packer
# give them; a code's high bit is the sign.
GROUP = [1, -1, 0.5, 1.9921875, 1.00390625, 1.01171875, 1.0078125, 0.01, -0.0, 0, 1.0234375, -1.984375, 0.0234375,
         0.015625, 0.0078125, 0.03125]  # fmt: skip
HOST_8 = (127, "40 C0 20 7F 40 41 40 01 00 00 42 FF 02 01 00 02")
HOST_4 = (127, "4 C 2 7 4 4 4 0 0 0 4 F 0 0 0 0")
DEVICE_8 = (128, "20 A0 10 40 20 21 21 00 00 00 21 C0 01 01 00 01")
PRECISE_8 = (127, "40 C0 20 7F 40 41 41 01 00 00 42 FF 02 01 01 02")
DEVICE_4 = (128, "2 A 1 4 2 2 2 0 0 0 2 C 0 0 0 0")


def as_bytes(form, exponents, codes):
    sign = 1 << form.magnitude_bits
    digits = 2 if form.magnitude_bits == 7 else 1
    return int(exponents), " ".join(f"{(abs(c) | sign) if c < 0 else c:0{digits}X}" for c in codes.flatten().tolist())


def test_a_group_packs_to_the_hosts_bytes():
    x = torch.tensor([GROUP])
    assert as_bytes(BFLOAT8_B, *BFLOAT8_B.encode(x)) == HOST_8
    assert as_bytes(BFLOAT4_B, *BFLOAT4_B.encode(x)) == HOST_4


def test_a_group_packs_to_the_chips_bytes():
    x = torch.tensor([GROUP])
    assert as_bytes(BFLOAT8_B, *BFLOAT8_B.encode_on_device(x)) == DEVICE_8
    assert as_bytes(BFLOAT8_B, *BFLOAT8_B.encode_precisely(x)) == PRECISE_8
    assert as_bytes(BFLOAT4_B, *BFLOAT4_B.encode_on_device(x)) == DEVICE_4


@pytest.mark.parametrize(
    ("largest", "exponent", "code"), [(64.5, 133, 0x40), (7.9999, 129, 0x7F), (1e-40, 0, 0), (float("inf"), 255, 0x40)]
)
def test_the_largest_of_a_group_saturates_and_denormals_vanish(largest, exponent, code):
    exponents, codes = BFLOAT8_B.encode(torch.tensor([[largest, *[0.0] * 15]]))
    assert (int(exponents), int(codes[0, 0])) == (exponent, code)


def test_an_infinity_empties_its_group():
    values = BFLOAT8_B.quantise(torch.tensor([[float("inf"), *[1.0] * 15]]))
    assert values[0, 0] == torch.inf
    assert not values[0, 1:].any()


@pytest.mark.parametrize(
    ("word", "half"),
    [(0x3F808000, 0x3F81), (0x3F818000, 0x3F82), (0x3F807FFF, 0x3F80), (-0x7FC00000, 0), (0x7FC00000, 0x7F80)],
)
def test_the_packer_goes_away_from_zero_flushes_and_hides_nan(word, half):
    packed = BFLOAT16.pack(torch.tensor([word], dtype=torch.int32).view(torch.float32))
    assert int(bits(packed)) & 0xFFFF == half


@given(st.sampled_from(BLOCKS), st.integers(1, 40), st.integers(1, 4))
def test_widths_that_are_no_multiple_of_sixteen_end_in_a_short_group(form, width, height):
    x = torch.randn(height, width)
    padded = torch.nn.functional.pad(x, (0, -width % 16))
    assert torch.equal(form.quantise(x), form.quantise(padded)[:, :width])
    assert form.quantise(x).shape == x.shape


def test_integers_saturate_and_truncate():
    x = torch.tensor([1.9, -1.9, 3e9, -5.0, float("nan")])
    assert INT32.quantise(x).tolist() == [1, -1, 2**31 - 1, -5, 0]
    assert UINT32.quantise(x).tolist() == [1, 0, 3_000_000_000, 0, 0]
    assert UINT16.quantise(x).tolist() == [1, 0, 65535, 0, 0]


def test_every_format_is_in_the_table_under_its_name():
    assert all(form.name == name for name, form in FORMATS.items())
    assert torch.empty(0, 16).numel() == BFLOAT8_B.quantise(torch.empty(0, 16)).numel()
