# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin: the `accuracy_gate` fixture, and the rule that a gate which compared nothing is no pass.

Installed with the package, so it loads in every project's pytest: it adds no option and imports no torch by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tttdebug.testing.gate import AccuracyGate

_GATE = pytest.StashKey["AccuracyGate"]()


@pytest.fixture
def accuracy_gate(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> AccuracyGate:
    """Call it as `accuracy_gate(actual, reference, pcc=0.99, slope=0.02, name="L07.mlp")`.

    Limits: pcc, rel_l2, slope, max_abs_diff, worst_token_pcc, last_token_pcc, ulp_p99. The figures of every comparison
    become properties of the test in a JUnit report. A test that asks for the gate and compares nothing fails.
    """
    from tttdebug.testing.gate import AccuracyGate

    gate = request.node.stash[_GATE] = AccuracyGate(record_property)
    return gate


@pytest.hookimpl(trylast=True)  # after the test itself, and only if it raised nothing
def pytest_runtest_call(item: pytest.Item) -> None:
    gate = item.stash.get(_GATE, None)
    if gate is not None and gate.compared == 0:
        pytest.fail(
            "accuracy_gate compared nothing; call it with two tensors, or take it out of the test", pytrace=False
        )
