# SPDX-License-Identifier: Apache-2.0
"""The plugin in a project of its own: what passes, what fails, what a JUnit report holds, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tttdebug

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a test file with this plugin and no other, whether or not tttdebug is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_file(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_inprocess("-p", "tttdebug.testing.plugin", "--strict-config", *options)

    return run_file


PASSING_AND_FAILING = """
    import torch

    reference = torch.linspace(-1, 1, 64).reshape(4, 16)

    def test_close(accuracy_gate):
        comparison = accuracy_gate(reference.bfloat16(), reference, pcc=0.999, rel_l2=0.01, name="L00.mlp")
        assert comparison.pcc > 0.999

    def test_doubled(accuracy_gate):
        accuracy_gate(2 * reference, reference, pcc=0.999, slope=0.02, name="L07.mlp")
"""


def test_a_gate_passes_and_fails_by_its_limits(run):
    result = run(PASSING_AND_FAILING)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*L07.mlp differs from its reference: slope 2 is not within 1 ± 0.02",
            "E*it is the reference times 2.000*",
            "E*shape [[]4, 16[]]: 64 of 64 elements differ",
            "E*reproduce: pytest '*::test_doubled'",
        ]
    )
    result.stdout.no_fnmatch_line("*testing/gate.py*")


def test_junit_holds_the_figures_of_passing_and_failing_gates(run, pytester):
    run(PASSING_AND_FAILING, "--junitxml=report.xml")
    cases = ElementTree.parse(pytester.path / "report.xml").iter("testcase")
    properties = {case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")} for case in cases}
    assert float(properties["test_close"]["L00.mlp.pcc"]) > 0.999
    assert float(properties["test_doubled"]["L07.mlp.slope"]) == 2
    assert float(properties["test_doubled"]["L07.mlp.rel_l2"]) == 1
    assert properties["test_doubled"]["L07.mlp.nonfinite_port"] == "0"
    assert float(properties["test_doubled"]["L07.mlp.norm_ratio"]) == 2


def test_a_gate_that_compared_nothing_fails(run):
    result = run(
        """
        def test_forgot_to_call_it(accuracy_gate):
            pass

        def test_looped_over_nothing(accuracy_gate):
            for layer in []:
                accuracy_gate(layer, layer, pcc=0.99)
        """
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*accuracy_gate compared nothing*"])


def test_a_test_that_ended_otherwise_keeps_its_own_outcome(run):
    result = run(
        """
        import pytest

        def test_skipped(accuracy_gate):
            pytest.skip("no device")

        def test_broken(accuracy_gate):
            raise RuntimeError("device fell over")

        @pytest.mark.xfail(strict=True)
        def test_expected_to_fail(accuracy_gate):
            accuracy_gate(1, 2, pcc=0.99)
        """
    )
    result.assert_outcomes(skipped=1, failed=1, xfailed=1)
    result.stdout.no_fnmatch_line("*compared nothing*")


def test_a_gate_without_a_limit_is_refused(run):
    result = run(
        """
        import torch

        def test_no_limit(accuracy_gate):
            accuracy_gate(torch.ones(2, 2), torch.ones(2, 2))

        def test_unknown_limit(accuracy_gate):
            accuracy_gate(torch.ones(2, 2), torch.ones(2, 2), pc=0.99)
        """
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*TypeError: accuracy_gate needs a limit*", "*TypeError:*'pc'*"])


def test_a_differing_shape_fails(run):
    result = run(
        """
        import torch

        def test_shape(accuracy_gate):
            accuracy_gate(torch.ones(1, 2, 2), torch.ones(2, 2), pcc=0.9)
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LayoutError: cannot compare a reference of shape [[]2, 2[]]*"])


def test_unnamed_comparisons_are_numbered(run, pytester):
    run(
        """
        import torch

        def test_two(accuracy_gate):
            accuracy_gate(torch.eye(3), torch.eye(3), pcc=0.9)
            accuracy_gate(torch.eye(3), torch.eye(3), pcc=0.9)
        """,
        "--junitxml=report.xml",
    )
    names = {p.get("name") for p in ElementTree.parse(pytester.path / "report.xml").iter("property")}
    assert {"comparison 1.pcc", "comparison 2.pcc"} <= names


def test_the_plugin_costs_nothing_where_it_is_not_used(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(tttdebug.__file__).parents[1]))
    pytester.makepyfile(
        """
        import sys

        def test_nothing_heavy_is_loaded(request):
            assert request.config.pluginmanager.has_plugin("tttdebug.testing.plugin")
            assert not {"torch", "transformers", "numpy", "pandas"} & sys.modules.keys()
        """
    )
    result = pytester.runpytest_subprocess("-p", "tttdebug.testing.plugin")
    result.assert_outcomes(passed=1)


def test_an_installed_tttdebug_brings_the_plugin():
    entry_points = [point for point in metadata.entry_points(group="pytest11") if point.name == "tttdebug"]
    if not entry_points:
        pytest.skip("tttdebug runs from its source tree")
    assert entry_points[0].value == "tttdebug.testing.plugin"
