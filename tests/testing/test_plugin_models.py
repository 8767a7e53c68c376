# SPDX-License-Identifier: Apache-2.0
"""Tests of a whole model in a project of its own: marker, fixtures, options, what fails, what a report holds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tttdebug
from tttdebug.tracking import Run

CONFTEST = """
    from tiny_llamas import tiny_llama

    loaded = []

    def tiny():
        loaded.append(1)
        return tiny_llama(num_hidden_layers=1)
"""
HEADER = "import pytest\nfrom conftest import loaded, tiny\n\n"
ASKED = "model=tiny, prompts=[range(3, 43)], decode_steps=1"


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs a test file with this plugin and those named, whether or not tttdebug is installed, in a process of its own:
    libraries that are imported twice in one refuse to be.
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    paths = [Path(tttdebug.__file__).parents[1], Path(__file__).parents[1] / "references", pytester.path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]))
    pytester.makeconftest(CONFTEST)

    def run_file(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(HEADER + source)
        return pytester.runpytest_subprocess("-p", "tttdebug.testing.plugin", "--strict-markers", *options)

    return run_file


def test_runs_are_shared_by_all_tests_that_agree_on_the_model(run, pytester):
    result = run(
        f"""
@pytest.mark.accuracy({ASKED}, precision="bf16")
def test_whole_model(accuracy_gate, tracked_run):
    accuracy_gate.run(tracked_run)
    assert tracked_run.manifest.precision == "bf16"

@pytest.mark.accuracy({ASKED}, precision="bf16", boundaries="L*.mlp")
def test_mlps(accuracy_gate, tracked_run, reference_model):
    accuracy_gate.run(tracked_run)
    assert accuracy_gate.compared == 1
    assert reference_model.model.config.num_hidden_layers == 1

@pytest.mark.accuracy({ASKED}, precision="performance")
def test_other_precision(accuracy_gate, tracked_run):
    accuracy_gate.run(tracked_run)

def test_loaded_once():
    assert loaded == [1]
""",
        "--tttdebug-report=kept",
    )
    result.assert_outcomes(passed=4)
    kept = {path.name: Run.load(path) for path in (pytester.path / "kept").iterdir()}
    assert set(kept) == {"tiny_bf16", "tiny_performance"}
    command = kept["tiny_bf16"].manifest.command
    assert command == "pytest 'test_runs_are_shared_by_all_tests_that_agree_on_the_model.py::test_whole_model'"


TOO_STRICT = f"""
@pytest.mark.accuracy({ASKED}, precision="performance", boundaries=["L*.mlp", "embed"], thresholds="limits.toml")
def test_strict(accuracy_gate, tracked_run):
    accuracy_gate.run(tracked_run)

@pytest.mark.accuracy({ASKED}, precision="performance", boundaries="embed", thresholds="limits.toml")
def test_of_another_boundary(accuracy_gate, tracked_run):
    accuracy_gate.run(tracked_run)
"""


def test_a_failure_tells_the_whole_story_and_the_report_holds_every_value(run, pytester):
    limits = '[[threshold]]\nboundaries = "*"\npcc = 0.5\n[[threshold]]\nboundaries = "L*.mlp"\npcc = 1.0\n'
    (pytester.path / "limits.toml").write_text(limits)
    result = run(TOO_STRICT, "--junitxml=report.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*FAIL  2 of * comparisons miss a limit",
            "*ledger * expected, * compared, 0 skipped, 2 failed*",
            "*L00.mlp in prefill, user 0: pcc 0.* is not ≥ 1",
            "*worst token * greatest error at*",
            "*limits.toml, line 4",
            "*L00.mlp in decode 0, user 0: pcc*",
            "*reproduce: pytest *::test_strict*",
        ]
    )
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "report.xml").iter("testcase")}
    held = {p.get("name"): p.get("value") for p in cases["test_strict"].iter("property")}
    assert float(held["L00.mlp.prefill.pcc"]) < float(held["L00.mlp.prefill.pcc.limit"]) == 1.0
    assert {"embed.prefill.pcc", "L00.mlp.decode.pcc", "L00.mlp.rel_l2", "L00.mlp.verdict"} <= held.keys()
    assert "L00.self_attn.prefill.pcc" not in held


def test_a_test_that_gates_nothing_never_passes(run):
    result = run(
        f"""
@pytest.mark.accuracy({ASKED})
def test_took_no_gate(reference_model): pass

@pytest.mark.accuracy({ASKED})
def test_compared_nothing(accuracy_gate, reference_model): pass

@pytest.mark.accuracy(model=tiny, precison="bf16")
def test_misspelt(reference_model): pass

@pytest.mark.accuracy("llama")
def test_not_by_name(accuracy_gate): pass

def test_without_a_marker(tracked_run): pass

@pytest.mark.accuracy({ASKED}, boundaries="L*.mpl")
def test_of_no_boundary(accuracy_gate, tracked_run): accuracy_gate.run(tracked_run)

@pytest.mark.accuracy({ASKED}, thresholds="none.toml")
def test_without_thresholds(accuracy_gate, tracked_run): accuracy_gate.run(tracked_run)
"""
    )
    result.assert_outcomes(failed=4, errors=3)
    for says in (
        "*the test is marked accuracy but holds nothing to it; take the fixture accuracy_gate*",
        "*accuracy_gate compared nothing*",
        "*does not take precison; it takes model, precision,*",
        "*does not take 'llama'; it takes model,*",
        "*tracked_run needs to know the model; mark the test with*",
        "*L[*].mpl names no boundary of *; nearest: L00.mlp*",
        "*none.toml cannot be read*",
    ):
        result.stdout.fnmatch_lines([says])


def test_the_tests_that_the_documentation_shows_pass(run, pytester):
    page = (Path(__file__).parents[2] / "docs" / "gating.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"^```python file=(\S+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    (pytester.path / "thresholds.toml").write_text(files["thresholds.toml"])
    run(files["test_port.py"]).assert_outcomes(passed=2)


BASELINED = """
@pytest.mark.accuracy({asked}, precision={precision!r}, baseline="baseline.toml")
def test_no_worse(accuracy_gate, tracked_run): accuracy_gate.run(tracked_run)
"""


def test_a_baseline_is_written_held_and_tightened_when_told_so(run, pytester):
    coarse, fine = (BASELINED.format(asked=ASKED, precision=name) for name in ("accuracy", "bf16"))
    result = run(coarse)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*BaselineError*baseline.toml*"])

    result = run(coarse, "--tttdebug-update-baseline")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["written: *baseline.toml, 20 limits"])
    run(coarse).assert_outcomes(passed=1)

    result = run(fine, "--tttdebug-update-baseline")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["updated: *baseline.toml, * of 20 limits"])
    tightened = (pytester.path / "baseline.toml").read_text()
    assert "pytest --tttdebug-update-baseline test_" in tightened

    for options in ((), ("--tttdebug-update-baseline",)):
        result = run(coarse, *options)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["*boundaries are worse than *baseline.toml allows*", "*L00.mlp in prefill: rel_l2*"]
        )
        assert (pytester.path / "baseline.toml").read_text() == tightened


def test_a_baseline_is_not_updated_by_several_workers(run):
    result = run(BASELINED.format(asked=ASKED, precision="bf16"), "-p", "xdist", "-n2", "--tttdebug-update-baseline")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_device_that_is_not_there_is_an_error_and_no_skip(run):
    source = f"@pytest.mark.accuracy({ASKED})\ndef test_it(accuracy_gate, tracked_run): pass"
    result = run(source, "--tttdebug-device=no-such-device")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*DeviceError*no-such-device*"])


def test_workers_of_xdist_gate_alike(run, pytester):
    (pytester.path / "limits.toml").write_text('[[threshold]]\nboundaries = "*"\nnorm_ratio = 0\n')
    source = f"""
@pytest.mark.accuracy({ASKED}, precision="bf16")
@pytest.mark.parametrize("i", range(2))
def test_sound(accuracy_gate, tracked_run, i): accuracy_gate.run(tracked_run)

@pytest.mark.accuracy({ASKED}, precision="bf16", thresholds="limits.toml")
def test_failing(accuracy_gate, tracked_run): accuracy_gate.run(tracked_run)
"""
    result = run(source, "-p", "xdist", "-n", "2", "--tttdebug-report=kept", "--junitxml=report.xml")
    result.assert_outcomes(passed=2, failed=1)
    assert all(Run.load(path).manifest.finished for path in (pytester.path / "kept").iterdir())
    properties = [p.get("name") for p in ElementTree.parse(pytester.path / "report.xml").iter("property")]
    assert properties.count("L00.mlp.prefill.pcc") == 2
    assert "L00.mlp.prefill.norm_ratio" in properties
