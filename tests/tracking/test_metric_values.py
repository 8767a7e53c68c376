# SPDX-License-Identifier: Apache-2.0
"""Every metric against exact arithmetic, for any shape, dtype, order and chunk."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from drawn_pairs import activations, everyday, pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from tttdebug.tracking.comparison import Comparison, compare
from tttdebug.tracking.onepass import one_pass


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
