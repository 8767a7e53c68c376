# SPDX-License-Identifier: Apache-2.0
"""Formulas of layers: read as they are written, and nothing else read into them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tttdebug.tracking.pairing import Pair, PairedModules
from tttdebug.tracking.wiring import Applied, Step, Sum, Value, parts_of, steps_of, wiring_of


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


def paired(*layers: str) -> list[PairedModules]:
    """Layers of a port, each with the formula that it says, or none, and two parts of which one is compared."""
    modules = []
    for number, formula in enumerate(layers):
        path, parts = f"layers.{number}", SimpleNamespace(**({"wiring": formula} if formula else {}))
        modules.append(PairedModules(Pair(f"L{number:02}.mlp", f"{path}.feed_forward", ""), object(), nn.Identity()))
        modules.append(PairedModules(Pair(f"L{number:02}.layer_out", path, ""), parts, nn.Identity()))
    return modules


def test_a_port_says_how_it_is_wired_in_the_names_of_its_parts() -> None:
    formula = "h = x + attention(x); h + feed_forward(h)"
    assert wiring_of(paired(formula, formula)) == "h = x + attention(x); h + mlp(h)"


@pytest.mark.parametrize("layers", [("",), ("", ""), ("x + a(x)", "x + b(x)")])
def test_layers_that_say_nothing_or_not_the_same_have_no_formula(layers: tuple[str, ...]) -> None:
    assert wiring_of(paired(*layers)) == ""
