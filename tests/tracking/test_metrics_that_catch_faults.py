# SPDX-License-Identifier: Apache-2.0
"""Which metric catches which fault, and which token is the worst."""

from __future__ import annotations

import math

import pytest
import torch
from drawn_pairs import activations

from tttdebug.tracking.comparison import compare


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
