# SPDX-License-Identifier: Apache-2.0
"""Margins over prompts: one module out of its kind is told, a noisy prompt is not, and few samples say nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.analysis.margins import LEAST, Margins

RATIOS = st.floats(0.0, 0.2)


def measured(ratios_of, layers=8, prompts=4, **options):
    margins = Margins(**options)
    for layer in range(layers):
        for prompt in range(prompts):
            margins.add(f"L{layer:02d}.mlp", prompt, ratios_of(layer, prompt))
    return margins


@given(st.lists(RATIOS, min_size=32, max_size=32))
def test_alike_modules_are_not_at_fault(ratios):
    margins = measured(lambda layer, prompt: ratios[4 * layer + prompt])
    assert not any(margins.is_at_fault(f"L{layer:02d}.mlp") for layer in range(8))


@given(st.lists(RATIOS, min_size=32, max_size=32), st.integers(0, 7))
def test_one_above_its_kind_is_told_below_the_general_limit(ratios, faulty):
    margins = measured(lambda layer, prompt: 0.9 if layer == faulty else ratios[4 * layer + prompt])
    assert [layer for layer in range(8) if margins.is_at_fault(f"L{layer:02d}.mlp")] == [faulty]
    assert LEAST <= margins.limit("L00.mlp") <= 1.0


def test_without_its_kind_only_the_general_limit_counts():
    margins = measured(lambda layer, prompt: 0.9 if layer == 3 else 0.1, by_kind=False)
    assert not margins.is_at_fault("L03.mlp")
    assert margins.limit("L03.mlp") == 1.0


def test_a_single_bad_prompt_of_many_does_not_condemn_a_module():
    margins = measured(lambda layer, prompt: 1.3 if (layer, prompt) == (2, 0) else 0.8)
    interval = margins.interval("L02.mlp")
    assert interval.low < interval.mean < interval.high
    assert not margins.is_at_fault("L02.mlp")


@pytest.mark.parametrize(("layers", "prompts"), [(3, 4), (8, 3)])
def test_few_samples_leave_the_general_limit(layers, prompts):
    assert measured(lambda layer, prompt: 0.1, layers, prompts).limit("L00.mlp") == 1.0


def test_every_module_wrong_alike_is_still_wrong():
    margins = measured(lambda layer, prompt: 4.0)
    assert all(margins.is_at_fault(f"L{layer:02d}.mlp") for layer in range(8))


def test_what_is_not_finite_is_at_fault():
    assert measured(lambda layer, prompt: math.inf if layer == 1 else 0.1).is_at_fault("L01.mlp")
