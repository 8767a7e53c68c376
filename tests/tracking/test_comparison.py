# SPDX-License-Identifier: Apache-2.0
"""Every metric against exact arithmetic, what has no number, and which metric catches which fault."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from tttdebug.errors import LayoutError
from tttdebug.tracking.comparison import Comparison, compare
from tttdebug.tracking.onepass import one_pass

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
everyday = st.floats(-1e3, 1e3, width=32).map(lambda value: value if abs(value) > 1e-3 else 0.0)
small_shapes = arrays.array_shapes(min_dims=1, max_dims=3, max_side=7)


@st.composite
def pairs(draw, elements=finite | everyday, shapes=small_shapes) -> tuple[Tensor, Tensor]:
    shape = draw(shapes)
    sides = (draw(arrays.arrays(np.float32, shape, elements=elements)) for _ in range(2))
    reference, port = (torch.from_numpy(side) for side in sides)
    return reference, port


def activations(tokens: int = 128, features: int = 512, seed: int = 0) -> Tensor:
    return torch.randn(tokens, features, generator=torch.Generator().manual_seed(seed))


def exact_metrics(reference: Tensor, port: Tensor) -> dict[str, float]:
    """The metrics in rational arithmetic, rounded once at the end."""
    r, t = ([Fraction(value) for value in side.double().flatten().tolist()] for side in (reference, port))
    n = len(r)
    errors = [abs(b - a) for a, b in zip(r, t, strict=True)]
    rr, tt, rt = (_dot(a, b) for a, b in ((r, r), (t, t), (r, t)))
    mean_r, mean_t = sum(r) / n, sum(t) / n
    spread_r, spread_t, product = rr - n * mean_r**2, tt - n * mean_t**2, rt - n * mean_r * mean_t
    ee = _dot(errors, errors)
    return {
        "pcc": _over_root(product, spread_r * spread_t),
        "max_abs_diff": float(max(errors)),
        "rel_l2": math.sqrt(ee / rr) if rr else (math.inf if ee else 0.0),
        "slope": float(rt / rr) if rr else math.nan,
        "norm_ratio": math.sqrt(tt / rr) if rr else math.nan,
        "cosine": _over_root(rt, rr * tt),
        "mean_abs": float(sum(errors) / n),
        "rmse": math.sqrt(ee / n),
    }


def _dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _over_root(numerator: Fraction, square: Fraction) -> float:
    """numerator / √square."""
    return math.copysign(math.sqrt(numerator**2 / square), numerator) if square else math.nan


def bf16_ulp_distances(reference: Tensor, port: Tensor) -> list[int]:
    """Sorted, by another bfloat16 and plain integers."""

    def ordered(side: Tensor) -> np.ndarray:
        bits = side.numpy().astype(ml_dtypes.bfloat16).view(np.uint16).astype(np.int64)
        return np.where(bits & 0x8000, -(bits & 0x7FFF), bits)

    return sorted(np.abs(ordered(port) - ordered(reference)).ravel().tolist())


# ---- the numbers are right ----


@settings(deadline=None, max_examples=200)
@given(pairs())
def test_metrics_match_exact_arithmetic(pair):
    reference, port = pair
    comparison, exact = compare(reference, port), exact_metrics(reference, port)
    ratio = 1.0 if math.isnan(exact["norm_ratio"]) else max(1.0, exact["norm_ratio"])
    for name in ("max_abs_diff", "rel_l2", "norm_ratio", "mean_abs", "rmse"):
        assert getattr(comparison, name) == pytest.approx(exact[name], rel=1e-12, abs=0, nan_ok=True), name
    for name, tolerance in (("pcc", 1e-12), ("cosine", 1e-12), ("slope", 1e-12 * ratio)):
        assert getattr(comparison, name) == pytest.approx(exact[name], rel=0, abs=tolerance, nan_ok=True), name


@settings(deadline=None)
@given(pairs())
def test_ulp_percentiles_are_exact(pair):
    comparison, distances = compare(*pair), bf16_ulp_distances(*pair)
    rank = {percent: max(1, math.ceil(len(distances) * percent / 100)) for percent in (50, 99, 100)}
    assert comparison.ulp_p50 == distances[rank[50] - 1]
    assert comparison.ulp_p99 == distances[rank[99] - 1]
    assert comparison.ulp_max == distances[rank[100] - 1]


@settings(deadline=None)
@given(pairs(shapes=arrays.array_shapes(min_dims=2, max_dims=4, max_side=5)), st.data())
def test_a_token_is_judged_as_if_compared_alone(pair, data):
    reference, port = pair
    dim = data.draw(st.integers(-reference.ndim, reference.ndim - 1))
    comparison = compare(reference, port, token_dim=dim)
    alone = [compare(r, t) for r, t in zip(reference.movedim(dim, 0), port.movedim(dim, 0), strict=True)]
    assert comparison.profile.token_pcc == pytest.approx([token.pcc for token in alone], abs=1e-12, nan_ok=True)
    assert comparison.profile.token_rel_l2 == pytest.approx([token.rel_l2 for token in alone], rel=1e-12)
    assert comparison.last_token_pcc == pytest.approx(alone[-1].pcc, abs=1e-12, nan_ok=True)
    assert comparison.worst_token_pcc == pytest.approx(alone[comparison.worst_token].pcc, abs=1e-12, nan_ok=True)


@settings(deadline=None)
@given(pairs(), st.integers(1, 400))
def test_worst_elements_are_the_greatest_errors_in_order(pair, chunk):
    reference, port = pair
    error = (port.double() - reference.double()).abs().flatten()
    expected = sorted(range(len(error)), key=lambda i: (-float(error[i]), i))[:16]
    assert one_pass(reference, port, chunk).worst_positions.tolist() == expected
    comparison = compare(reference, port, token_dim=None)
    assert comparison.max_abs_index == np.unravel_index(expected[0], reference.shape)
    differing = [i for i in expected if error[i] > 0]
    assert [np.ravel_multi_index(element.at, reference.shape) for element in comparison.profile.worst] == differing
    assert all(element.port == port[element.at] for element in comparison.profile.worst)
    assert all(element.reference == reference[element.at] for element in comparison.profile.worst)


def test_many_equal_errors_name_the_first_of_them():
    reference = torch.zeros(300, 1000)
    comparison = compare(reference, reference + 0.5)
    assert comparison.max_abs_index == (0, 0)
    assert [element.at for element in comparison.profile.worst] == [(0, i) for i in range(16)]


@pytest.mark.parametrize("shape", [(500, 700), (1, 350_000), (3, 2, 60_000), (2, 3, 150, 400)])
def test_worst_elements_are_found_in_large_tensors(shape):
    generator = torch.Generator().manual_seed(1)
    reference = torch.randn(shape, generator=generator)
    port = reference + torch.randn(shape, generator=generator)
    error = (port.double() - reference.double()).abs()
    greatest = error.flatten().topk(16).values
    worst = compare(reference, port).profile.worst
    assert [float(error[element.at]) for element in worst] == greatest.tolist()


@settings(deadline=None)
@given(pairs())
def test_error_histogram_counts_every_element_once(pair):
    reference, port = pair
    profile = compare(reference, port).profile
    error = (port.double() - reference.double()).abs().numpy()
    expected, _ = np.histogram(error, bins=np.array(profile.error_edges))
    assert list(profile.error_counts) == expected.tolist()
    assert sum(profile.error_counts) == reference.numel()
    assert len(profile.error_counts) <= 41


def test_profile_goes_into_json():
    profile = compare(activations(8, 16), activations(8, 16, seed=1)).profile
    assert json.loads(json.dumps(asdict(profile)))["worst"][0][0] == list(profile.worst[0].at)


@settings(deadline=None)
@given(pairs(shapes=arrays.array_shapes(min_dims=2, max_dims=4, max_side=7)), st.integers(1, 100))
def test_sums_do_not_depend_on_the_chunk(pair, chunk):
    whole, chunked = one_pass(*pair), one_pass(*pair, chunk)
    for name in ("ulp_counts", "octave_counts", "worst_positions"):
        assert np.array_equal(getattr(whole, name), getattr(chunked, name)), name
    for name in ("count", "mean_r", "mean_t", "spread_r", "spread_t", "error_norm", "error_sum"):
        scale = whole.tokens.norm_r + whole.tokens.norm_t
        difference = np.abs(getattr(whole.tokens, name) - getattr(chunked.tokens, name))
        assert (difference <= 1e-12 * scale).all(), name


@settings(deadline=None, max_examples=30)
@given(pairs(shapes=st.just((4, 6, 5))), st.permutations(range(3)))
def test_strides_do_not_matter(pair, order):
    reference, port = (side.permute(*order) for side in pair)
    assert_same(compare(reference, port), compare(reference.contiguous(), port.contiguous()))
    assert_same(compare(reference[::2], port[::2]), compare(reference[::2].clone(), port[::2].clone()))
    expanded = reference[:1].expand(3, -1, -1)
    assert_same(compare(expanded, expanded + 1), compare(expanded.contiguous(), expanded + 1))


def assert_same(a: Comparison, b: Comparison) -> None:
    """Equal to the bit, nan equal to nan."""
    assert repr(a) == repr(b)
    assert repr(a.profile) == repr(b.profile)


@settings(deadline=None)
@given(pairs(elements=everyday, shapes=st.just((6, 8))), st.randoms(use_true_random=False))
def test_the_order_of_elements_does_not_matter_to_the_whole(pair, random):
    order = torch.tensor(random.sample(range(48), 48))
    straight = compare(*pair, token_dim=None)
    shuffled = compare(*(side.flatten()[order].view(6, 8) for side in pair), token_dim=None)
    for name in ("ulp_p50", "ulp_p99", "ulp_max", "max_abs_diff", "differing"):
        assert getattr(shuffled, name) == getattr(straight, name)
    for name in ("pcc", "rel_l2", "cosine", "mean_abs"):
        assert getattr(shuffled, name) == pytest.approx(getattr(straight, name), abs=1e-11, nan_ok=True)


@settings(deadline=None)
@given(pairs(elements=everyday), st.integers(-20, 20))
def test_a_scaled_port_keeps_its_pcc_and_scales_its_slope(pair, exponent):
    reference, port = pair
    straight, scaled = compare(reference, port), compare(reference, torch.ldexp(port, torch.tensor(exponent)))
    assert scaled.pcc == pytest.approx(straight.pcc, abs=1e-13, nan_ok=True)
    for name in ("slope", "norm_ratio"):
        assert getattr(scaled, name) == pytest.approx(getattr(straight, name) * 2**exponent, nan_ok=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_offset_of_ten_million_deviations_leaves_ten_digits(dtype):
    """Sums of raw squares would leave none of them in float32 and two in float64."""
    reference = (1e4 + 1e-3 * activations(64, 100).double()).to(dtype)
    port = (reference.double() + 5e-4 * activations(64, 100, seed=1).double()).to(dtype)
    assert compare(reference, port).pcc == pytest.approx(exact_metrics(reference, port)["pcc"], abs=1e-10)


def test_an_outlier_costs_no_digits():
    """Llama's massive activations: a channel of 1e5 beside values of 1."""
    reference, port = activations(32, 100), activations(32, 100) + 0.1 * activations(32, 100, seed=1)
    reference[:, 7] = port[:, 7] = 1e5
    exact = exact_metrics(reference, port)
    comparison = compare(reference, port)
    for name in ("pcc", "rel_l2", "slope", "cosine"):
        assert getattr(comparison, name) == pytest.approx(exact[name], rel=1e-13)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int32, torch.int64, torch.uint8, torch.bool]
)
def test_any_real_dtype_is_compared_as_the_values_it_holds(dtype):
    reference, port = ((8 * activations(16, 32, seed)).abs().to(dtype) for seed in (0, 1))
    assert_same(compare(reference, port), compare(reference.double(), port.double()))


def test_the_two_sides_may_differ_in_dtype():
    reference = activations()
    port = reference.bfloat16()
    comparison = compare(reference, port)
    assert comparison.ulp_max == 0
    assert 0 < comparison.rel_l2 < 2**-8


def test_tensors_are_left_as_they_are():
    reference, port = activations(8, 16).requires_grad_(), activations(8, 16, seed=1)
    before = reference.detach().clone(), port.clone()
    compare(reference, port)
    assert torch.equal(reference, before[0])
    assert torch.equal(port, before[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_numbers():
    reference, port = activations(), activations() + 0.01 * activations(seed=1)
    on_cpu, on_gpu = compare(reference, port), compare(reference.cuda(), port.cuda())
    assert on_gpu.ulp_p99 == on_cpu.ulp_p99
    assert on_gpu.max_abs_index == on_cpu.max_abs_index
    for name in ("pcc", "rel_l2", "slope", "worst_token_pcc"):
        assert getattr(on_gpu, name) == pytest.approx(getattr(on_cpu, name), rel=1e-12)


# ---- what has no number says so ----


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


# ---- which metric catches which fault ----


def last_token_zeroed(x):
    return torch.cat((x[:-1], torch.zeros_like(x[-1:])))


def last_tile_column_zeroed(x):
    return torch.cat((x[:, :-32], torch.zeros_like(x[:, -32:])), dim=1)


def heads_permuted(x):
    return x.view(len(x), 16, 32)[:, torch.randperm(16, generator=torch.Generator().manual_seed(3))].reshape(x.shape)


def one_nan_in_a_thousand(x):
    return torch.where(torch.arange(x.numel()).view(x.shape) % 1000 == 0, torch.nan, x)


FAULTS = {
    "a missing ½": (lambda x: 2 * x, {"slope", "rel_l2", "ulp_p99"}),
    "an offset of ½": (lambda x: x + 0.5, {"rel_l2", "ulp_p99"}),
    "the last token zeroed": (last_token_zeroed, {"rel_l2", "worst_token_pcc", "last_token_pcc"}),
    "the last tile column zeroed": (
        last_tile_column_zeroed,
        {"pcc", "rel_l2", "slope", "ulp_p99"} | {"worst_token_pcc", "last_token_pcc"},
    ),
    "heads permuted": (heads_permuted, {"pcc", "rel_l2", "slope", "worst_token_pcc", "last_token_pcc", "ulp_p99"}),
    "0.1 % NaN": (one_nan_in_a_thousand, {"pcc", "rel_l2", "slope", "worst_token_pcc"}),
    "none": (lambda x: x + 0.005 * activations(seed=9), set()),
}
LIMITS = {"pcc": 0.99, "rel_l2": 0.05, "slope": 0.02, "worst_token_pcc": 0.99, "last_token_pcc": 0.99, "ulp_p99": 100}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_caught_and_by_these_metrics(fault):
    """pcc alone misses the first three of these."""
    inject, catching = FAULTS[fault]
    reference = activations()
    comparison = compare(reference, inject(reference))
    caught = {name for name, limit in LIMITS.items() if not comparison.passed(**{name: limit})}
    if comparison.nonfinite_port:
        assert caught == set(LIMITS)
        caught = {name for name in LIMITS if math.isnan(getattr(comparison, name))}
    assert caught == catching


def test_the_zeroed_token_is_named():
    reference = activations()
    reference_of_noise = reference + 0.01 * activations(seed=1)
    comparison = compare(reference, last_token_zeroed(reference_of_noise))
    assert comparison.worst_token == 127
    assert comparison.profile.token_rel_l2[127] == pytest.approx(1)
    assert comparison.pcc > 0.99


def test_among_varying_tokens_the_lowest_pcc_is_worst_and_constant_references_are_passed_over():
    reference = activations(6, 64)
    port = reference + 0.01 * activations(6, 64, seed=1)
    port[3] += 0.5 * activations(1, 64, seed=2)[0]
    reference[4] = port[4] = 0.0
    assert compare(reference, port).worst_token == 3


# ---- limits ----


def test_every_missed_limit_is_a_sentence():
    reference = activations()
    comparison = compare(reference, 2 * reference)
    assert comparison.passed(pcc=0.9999)
    assert comparison.failures(pcc=0.9999, rel_l2=0.05, slope=0.02) == (
        "rel_l2 1 > 0.05",
        "slope 2 is not within 1 ± 0.02",
    )
    assert "slope 2" in str(comparison)


@settings(deadline=None)
@given(pairs(elements=everyday), st.sampled_from(sorted(LIMITS)))
def test_a_limit_holds_exactly_up_to_the_value(pair, name):
    comparison = compare(*pair)
    value = getattr(comparison, name)
    assume(math.isfinite(value) and not comparison.constant_reference)
    if name == "slope":
        assert comparison.passed(slope=abs(value - 1))
        assert not comparison.passed(slope=math.nextafter(abs(value - 1), -math.inf))
    else:
        worse = math.inf if name.endswith("pcc") else -math.inf
        assert comparison.passed(**{name: value})
        assert not comparison.passed(**{name: math.nextafter(value, worse)})


def test_an_unknown_limit_is_refused():
    with pytest.raises(TypeError, match="pc"):
        compare(activations(), activations()).passed(pc=0.99)
