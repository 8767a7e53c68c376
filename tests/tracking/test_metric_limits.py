# SPDX-License-Identifier: Apache-2.0
"""A limit holds exactly up to its value, and a missed one is said in a sentence."""

from __future__ import annotations

import math

import pytest
from drawn_pairs import activations, everyday, pairs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tttdebug.tracking.comparison import compare

METRICS = ("pcc", "rel_l2", "slope", "worst_token_pcc", "last_token_pcc", "ulp_p99")


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
@given(pairs(elements=everyday), st.sampled_from(METRICS))
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
