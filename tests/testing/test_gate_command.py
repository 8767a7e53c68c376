# SPDX-License-Identifier: Apache-2.0
"""`tttdebug gate` as CI runs it: exit codes, what is printed, and the JUnit report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tiny_llamas import tiny_llama

import tttdebug as td
from typed_command import heard


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A sound run and one with a doubled norm, of a tiny Llama."""
    folder = tmp_path_factory.mktemp("runs")
    reference = td.load_reference(tiny_llama(num_hidden_layers=1))
    state, name = dict(reference.model.state_dict()), "model.layers.0.input_layernorm.weight"
    for out, weights in (("sound", state), ("broken", state | {name: 2 * state[name]})):
        port = td.build_model(reference, td.open_device("emulated"), precision="bf16", weights=weights)
        td.track(port, reference, [list(range(3, 43))], 1, out=folder / out, command="tttdebug run --model tiny")
    return folder


@pytest.fixture
def gate(capsys):
    """Runs the command in this process and gives its exit code, standard output and standard error."""
    return heard(capsys, "gate")


def test_a_sound_run_exits_0_with_its_ledger(gate, runs):
    code, out, _ = gate(runs / "sound", "--baseline", runs / "sound")
    assert code == 0
    verdict, ledger, *_ = out.splitlines()
    assert verdict.startswith("PASS  all ")
    count = verdict.split()[2]
    assert ledger.startswith(f"ledger      {count} expected, {count} compared, 0 skipped, 0 failed")


def test_a_broken_run_exits_1_with_where_and_how_to_reproduce_it(gate, runs):
    code, out, _ = gate(runs / "broken")
    assert code == 1
    assert out.startswith("FAIL  ")
    assert re.search(r"\nL00\.input_norm in prefill, user 0: slope (1\.99|2)\S* is not within 1 ± 0\.02\n  worst", out)
    assert "; greatest error at [" in out
    assert "limit of the default thresholds, line " in out
    assert out.endswith("reproduce: tttdebug run --model tiny\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "is not a run"),
        ([], "no run is given"),
        (["sound", "--thresholds", "nowhere.toml"], "cannot be read"),
        (["sound", "--thresholds", "limits.toml"], "limits.toml, line 1: L99.mlp names nothing"),
        (["sound", "--baseline", "nowhere"], "is not a run"),
        (["sound", "--reference-digest", "xyz"], "'xyz' is no digest"),
        (["sound", "--junit", "no/such/folder/report.xml"], "cannot write the JUnit report"),
    ],
)
def test_no_result_exits_2_in_one_line(gate, runs, monkeypatch, arguments, says):
    monkeypatch.chdir(runs)
    (runs / "limits.toml").write_text('[[threshold]]\nboundaries = "L99.mlp"\npcc = 0.9\n')
    code, out, err = gate(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_json_is_one_object(gate, runs):
    code, out, _ = gate(runs / "broken", "--json")
    result = json.loads(out)
    assert code == 1
    assert result["passed"] is False
    assert result["misses"][0]["key"]["boundary"] == "L00.input_norm"
    assert result["ledger"]["failed"] == len({tuple(miss["key"].values()) for miss in result["misses"]})


def test_junit_holds_every_limited_value_and_the_failures(gate, runs, tmp_path):
    gate(runs / "broken", "--junit", tmp_path / "report.xml")
    (suite,) = ElementTree.parse(tmp_path / "report.xml").getroot()
    cases = {case.get("name"): case for case in suite}
    assert int(suite.get("tests")) == len(cases)
    held = {p.get("name"): float(p.get("value")) for p in cases["L00.input_norm prefill"].iter("property")}
    assert held["slope"] == pytest.approx(2, abs=0.01)
    assert (held["slope.limit"], held["pcc.limit"]) == (0.02, 0.999)
    assert cases["embed decode"].find("failure") is None
    assert cases["ledger"].find("failure") is None
    failure = cases["L00.input_norm prefill"].find("failure")
    assert failure.get("message").endswith("is not within 1 ± 0.02")
    assert "reproduce: tttdebug run --model tiny" in failure.text
    assert int(suite.get("failures")) == len(list(suite.iter("failure")))


def test_the_defaults_are_printed_as_a_file_that_gates(gate, runs, tmp_path):
    code, out, _ = gate("--print-defaults")
    (tmp_path / "limits.toml").write_text(out)
    assert code == 0
    assert gate(runs / "sound", "--thresholds", tmp_path / "limits.toml")[0] == 0
    assert gate(runs / "broken", "--thresholds", tmp_path / "limits.toml")[0] == 1


def test_a_gate_needs_no_torch(runs):
    """It is the import that would take longest."""
    code = (
        "import sys; sys.argv = ['tttdebug', 'gate', 'sound']; from tttdebug import cli\n"
        "try: cli.main()\n"
        "finally: print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    source = {"PYTHONPATH": str(Path(td.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=runs, env=os.environ | source, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "False False"
    assert done.returncode == 0
