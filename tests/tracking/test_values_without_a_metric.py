# SPDX-License-Identifier: Apache-2.0
"""What has no number says so and does not pass: non-finite, constant, zero and empty tensors."""

from __future__ import annotations

import math

import pytest
import torch
from drawn_pairs import activations, everyday, finite, pairs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tttdebug.errors import LayoutError
from tttdebug.tracking.comparison import compare


@settings(deadline=None)
@given(pairs(elements=everyday, shapes=st.just((5, 6))), st.data())
def test_no_nonfinite_value_is_masked_away(pair, data):
    reference, port = pair
    where = data.draw(st.lists(st.integers(0, 29), min_size=1, unique=True))
    value = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    port.view(-1)[where] = value
    comparison = compare(reference, port)
    assert (comparison.nonfinite_port, comparison.nonfinite_reference) == (len(where), 0)
    assert not comparison.nonfinite_masks_agree
    assert not comparison.passed()
    assert f"non-finite: {len(where)} in the port, 0 in the reference" in comparison.note
    for name in ("pcc", "slope", "norm_ratio", "cosine"):
        assert math.isnan(getattr(comparison, name)), name
    for name in ("max_abs_diff", "mean_abs", "rmse"):
        assert str(getattr(comparison, name)) == ("nan" if math.isnan(value) else "inf"), name
    first = divmod(min(where), 6)
    assert comparison.max_abs_index == comparison.profile.worst[0].at == first
    assert math.isnan(comparison.worst_token_pcc)
    assert math.isinf(comparison.ulp_max)
    assert sum(comparison.profile.error_counts) == 30 - len(where)


def test_a_few_nonfinite_values_leave_the_ulp_percentiles_below_them():
    reference = activations(10, 100)
    port = reference.clone()
    port[3, :5] = math.nan
    comparison = compare(reference, port)
    assert (comparison.ulp_p50, comparison.ulp_p99, comparison.ulp_max) == (0, 0, math.inf)
    port[3, :11] = math.nan
    assert compare(reference, port).ulp_p99 == math.inf


def test_infinities_of_a_mask_on_both_sides_fail_every_limit_but_agree():
    reference = activations(8, 16)
    reference[2, 3] = -math.inf
    comparison = compare(reference, reference.clone())
    assert comparison.nonfinite_masks_agree
    assert comparison.ulp_max == 0
    assert comparison.failures(pcc=0.9) == ("pcc nan is not ≥ 0.9",)


def test_two_tensors_of_nan_do_not_agree():
    """TTNN's own comp_pcc calls them a perfect match."""
    nan = torch.full((4, 8), math.nan)
    comparison = compare(nan, nan)
    assert comparison.differing == 32
    assert comparison.ulp_p50 == math.inf
    assert not comparison.passed(pcc=0.0)
    assert not comparison.passed(rel_l2=10.0)


@given(finite, st.integers(1, 2000))
def test_a_constant_reference_has_no_pcc_and_is_judged_by_its_error(value, size):
    assume(value == 0 or 1e-30 < abs(value) < 1e30)
    reference = torch.full((size,), value)
    same, other = compare(reference, reference.clone()), compare(reference, reference * 1.5 + (value == 0))
    assert math.isnan(same.pcc)
    assert "constant reference" in same.note
    assert same.passed(pcc=0.999, slope=0.02)
    assert not other.passed(pcc=0.99)
    assert "rel_l2" in other.failures(pcc=0.99)[0]


@pytest.mark.parametrize("shape", [(7,), (3, 1001), (1, 300_000)])
def test_rounding_of_the_mean_does_not_make_a_constant_vary(shape):
    """In float64 the mean of several 0.1 is not always 0.1."""
    tenth = torch.full(shape, 0.1, dtype=torch.float64)
    comparison = compare(tenth, tenth + torch.arange(shape[-1]))
    assert comparison.constant_reference
    assert math.isnan(comparison.pcc)


def test_a_constant_port_fails_its_pcc():
    comparison = compare(activations(), torch.full((128, 512), 0.1))
    assert math.isnan(comparison.pcc)
    assert comparison.note == "constant port: no pcc"
    assert not comparison.passed(pcc=0.0)


def test_a_reference_that_varies_in_its_last_bit_is_not_constant():
    reference = torch.ones(4, 256)
    reference[2, 17] = 1 + 2**-23
    assert compare(reference, reference.clone()).pcc == pytest.approx(1)


def test_a_zero_reference_is_met_by_zero_alone():
    zero = torch.zeros(4, 8)
    assert compare(zero, zero).rel_l2 == 0
    assert compare(zero, zero).passed(pcc=0.99, rel_l2=0.01, slope=0.02)
    missed = compare(zero, zero + 1e-6)
    assert missed.rel_l2 == math.inf
    assert not missed.passed(pcc=0.99)
    assert not missed.passed(slope=0.02)
    assert math.isnan(missed.slope)


@pytest.mark.parametrize("shape", [(0,), (0, 8), (4, 0)])
def test_nothing_compared_never_passes(shape):
    comparison = compare(torch.zeros(shape), torch.zeros(shape))
    assert comparison.note == "empty: nothing was compared"
    assert comparison.failures() == (comparison.note,)
    assert math.isnan(comparison.pcc)
    assert math.isnan(comparison.max_abs_diff)


def test_a_single_number_is_compared():
    comparison = compare(torch.tensor(2.0), torch.tensor(3.0))
    assert (comparison.shape, comparison.max_abs_index, comparison.worst_token) == ((), (), -1)
    assert (comparison.max_abs_diff, comparison.rel_l2, comparison.slope, comparison.ulp_max) == (1, 0.5, 1.5, 64)


def test_a_vector_has_no_tokens():
    comparison = compare(activations()[0], activations()[1])
    assert comparison.worst_token == -1
    assert math.isnan(comparison.last_token_pcc)
    assert comparison.profile.token_pcc == ()


def test_values_whose_squares_overflow_say_so():
    huge = torch.full((2, 3), 1e200, dtype=torch.float64) * activations(2, 3)
    comparison = compare(huge, huge * 2)
    assert "overflow" in comparison.note
    assert not comparison.passed(pcc=0.0)


@pytest.mark.parametrize(
    ("reference", "port", "options", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), {}, r"\[2, 3\].*\[3, 2\]"),
        (torch.zeros(2, 3), torch.zeros(1, 2, 3), {}, "nothing is broadcast"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.complex64), {}, "view_as_real"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"token_dim": 2}, "token_dim 2"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(reference, port, options, message):
    with pytest.raises(LayoutError, match=message):
        compare(reference, port, **options)
