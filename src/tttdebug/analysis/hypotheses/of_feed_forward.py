# SPDX-License-Identifier: Apache-2.0
"""Causes of a feed-forward network's error besides its weights: the activation function, and what it is applied to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.mathematics.feed_forward import ACTIVATIONS, FAST
from tttdebug.specs import FeedForwardSpec

if TYPE_CHECKING:
    from tttdebug.analysis.hypotheses.bench import Bench


def of_activation(bench: Bench) -> Iterator[Change]:
    """Another function, the function of something else, or no product with up."""
    spec = bench.call.spec
    if not isinstance(spec, FeedForwardSpec):
        return
    own = spec.nonlinearity
    for function in ACTIVATIONS:
        if function != own:
            says = "no activation function is applied" if function == "none" else f"the activation is {function}"
            yield Change("activation", f"{says} instead of {own}", Fix(f"apply {own}"), steps={"function": function})
    if own in FAST:
        yield Change(
            "approximate_exp",
            f"{own} is approximated by straight lines: its fast mode is on",
            Fix(f"take the accurate {own}", "fast_and_approximate_mode=False"),
            steps={"function": FAST[own]},
        )
    if not spec.is_gated:
        return
    yield Change(
        "activation",
        f"{own} is applied to the product of gate and up instead of the gate",
        Fix(f"apply {own} to the gate alone", f"ttnn.mul(ttnn.{own}(gate), up)"),
        steps={"function_of_product": True},
    )
    yield Change(
        "activation", "the gate is not multiplied by up", Fix("multiply the gate by up"), steps={"multiplies": False}
    )
