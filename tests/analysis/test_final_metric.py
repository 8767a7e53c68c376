# SPDX-License-Identifier: Apache-2.0
"""The final metric says how far predictions are apart, and nothing about what does not change them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.analysis.final_metric import final_metric, predictions


@given(st.integers(1, 9), st.integers(2, 40), st.floats(-50, 50), st.integers(0, 2**16))
def test_a_constant_added_to_all_logits_changes_no_prediction(tokens, vocabulary, constant, seed):
    logits = torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed)).double()
    metric = final_metric([predictions(logits, logits + constant)])
    assert metric.kl < 1e-9
    assert metric.kl_last < 1e-9
    assert metric.positions == tokens


@given(st.integers(1, 9), st.integers(2, 40), st.integers(0, 2**16))
def test_it_is_torchs_divergence_of_the_two_distributions(tokens, vocabulary, seed):
    generator = torch.Generator().manual_seed(seed)
    reference, port = (torch.randn(tokens, vocabulary, generator=generator).double() for _ in range(2))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=reference), torch.distributions.Categorical(logits=port)
    )
    metric = final_metric([predictions(reference, port)])
    assert metric.kl == pytest.approx(float(expected.mean()), abs=1e-9)
    assert metric.kl_last == pytest.approx(float(expected[-1]), abs=1e-9)
    assert metric.top1 == float((reference.argmax(-1) == port.argmax(-1)).double().mean())


def test_the_last_token_of_each_call_is_what_is_written():
    right, wrong = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    prompt = predictions(right.repeat(3, 1), torch.cat([wrong, wrong, right]))
    step = predictions(right, wrong)
    metric = final_metric([prompt, step])
    assert metric.positions == 4
    assert metric.top1 == 0.25
    assert metric.kl == pytest.approx(1.5 * metric.kl_last)


def test_a_nan_is_infinitely_far():
    logits = torch.randn(3, 8)
    broken = logits.clone()
    broken[1, 2] = math.nan
    metric = final_metric([predictions(logits, broken)])
    assert math.isinf(metric.kl)
    assert metric.kl_last == 0
    assert metric.top1 == pytest.approx(2 / 3)


def test_other_shapes_and_nothing_at_all_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 8\) beside the reference's \(3, 8\)"):
        predictions(torch.zeros(3, 8), torch.zeros(2, 8))
    with pytest.raises(ValueError, match="no call"):
        final_metric([])
