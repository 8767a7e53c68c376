# SPDX-License-Identifier: Apache-2.0
"""Adding to a finished run: what was compared is never lost; a process killed on the way leaves a run that loads."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.analysis.explanation import Explanation
from tttdebug.errors import RunError
from tttdebug.tracking.reopening import ReopenedRun
from tttdebug.tracking.run import ISOLATED


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    reference = td.load_reference(tiny_llama(3, num_hidden_layers=1))
    port = td.build_model(reference, td.open_device("emulated"))
    return td.track(port, reference, [list(range(3, 12))], out=tmp_path_factory.mktemp("kept") / "run")


@pytest.fixture
def run(kept, tmp_path):
    return td.Run.load(kept.save(tmp_path / "run"))


def isolated(record):
    return type(record)(**{**vars(record), "mode": ISOLATED})


def test_experiments_are_beside_the_records(run):
    reopened = ReopenedRun(run)
    for record in run.records[:3]:
        reopened.append(isolated(record), None)
    finished = reopened.finish({run.records[0].key: "inherited"}, [], ["a note"])
    loaded = td.Run.load(finished.path)
    assert loaded.manifest.finished
    assert [str(record) for record in loaded.records[1:]] == [str(record) for record in run.records[1:]]
    assert loaded.records[0].verdict == "inherited"
    assert [record.boundary for record in loaded.experiments] == [record.boundary for record in run.records[:3]]
    assert Explanation.load(loaded).notes == ("a note",)
    assert set(loaded.frame["mode"]) == {"accumulated", "isolated"}


def test_an_injected_experiment_fails_the_run(run):
    reopened = ReopenedRun(run)
    reopened.append(isolated(run.records[0]), None)
    finished = reopened.finish({isolated(run.records[0]).key: "injected"}, [], [])
    assert not finished.passed
    assert finished.first_divergence().mode == ISOLATED


def test_until_it_is_finished_it_loads_as_unfinished(run):
    reopened = ReopenedRun(run)
    reopened.append(isolated(run.records[0]), None)
    halfway = td.Run.load(run.path)
    assert not halfway.manifest.finished
    assert len(halfway.records) == len(run.records)
    assert len(halfway.experiments) == 1


KILLED = """
    import os, signal, sys
    import tttdebug as td
    from tttdebug.tracking.reopening import ReopenedRun
    run = td.Run.load(sys.argv[1])
    reopened = ReopenedRun(run)
    for record in run.records * 50:
        reopened.append(type(record)(**{**vars(record), "mode": "isolated"}), None)
        print(record.boundary, flush=True)
"""


@pytest.mark.parametrize("after", [0, 1, 7, 60])
def test_a_killed_explanation_loses_nothing_that_was_compared(run, after):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(run.path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(after):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    loaded = td.Run.load(run.path)
    assert [str(record) for record in loaded.records] == [str(record) for record in run.records]
    assert len(loaded.experiments) >= after
    again = ReopenedRun(loaded).finish({}, [], [])
    assert not td.Run.load(again.path).experiments


@pytest.mark.parametrize("damage", ["{", '{"findings": [{}], "notes": []}', "[]", '{"notes": []}'])
def test_damaged_findings_are_named(run, damage):
    ReopenedRun(run).finish({}, [], [])
    (run.path / "findings.json").write_text(damage)
    with pytest.raises(RunError, match=r"findings\.json is damaged"):
        Explanation.load(run)
