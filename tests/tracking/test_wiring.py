# SPDX-License-Identifier: Apache-2.0
"""Formulas of layers: read as they are written, and nothing else read into them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttdebug.tracking.wiring import Applied, Step, Sum, Value, parts_of, steps_of


def test_a_formula_is_read_as_it_is_written() -> None:
    first, last = steps_of("h = x + self_attn(norm(x)); h + mlp(h)")
    assert first == Step("h", Sum((Value("x"), Applied("self_attn", Applied("norm", Value("x"))))))
    assert last == Step("", Sum((Value("h"), Applied("mlp", Value("h")))))
    assert parts_of(first.term) == ["norm", "self_attn"]


def test_a_sum_of_several_is_one_sum_and_can_be_normalised() -> None:
    (step,) = steps_of("norm(x + a(x) + b(x))")
    assert step.term == Applied("norm", Sum((Value("x"), Applied("a", Value("x")), Applied("b", Value("x")))))


@pytest.mark.parametrize(
    "text", ["", "x -", "x * y", "h = x", "x; y", "f(x, y)", "a.b(x)", "import os", "f(*x)", "(" * 999]
)
def test_what_is_no_formula_says_nothing(text: str) -> None:
    assert steps_of(text) == ()


@given(st.text())
def test_whatever_a_file_says_is_read_or_not(text: str) -> None:
    assert isinstance(steps_of(text), tuple)
