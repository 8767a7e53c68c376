# SPDX-License-Identifier: Apache-2.0
"""CI services read a run: a case a comparison, its failure with metric, value and limit, and no green by omission."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import sample_runs

from tttdebug.analysis.explanation import Explanation
from tttdebug.reporting.junit_report import junit_report
from tttdebug.tracking.run import Run


def parsed(run) -> ElementTree.Element:
    return ElementTree.fromstring(junit_report(run, Explanation.load(run)).encode())


def suite(root, name):
    return root.find(f"testsuite[@name='{name}']")


@pytest.mark.parametrize("name", ["broken", "sound", "unfinished", "incomparable", "hostile"])
def test_counts_are_those_of_the_cases(name, request):
    run = request.getfixturevalue(name)
    root = parsed(run)
    for holder in (root, *root):
        cases = list(holder.iter("testcase"))
        assert int(holder.get("tests")) == len(cases)
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(holder.get(count)) == sum(case.find(tag) is not None for case in cases)
    accumulated = suite(root, "accumulated")
    assert int(accumulated.get("failures")) == len(run.failed)
    assert int(accumulated.get("skipped")) == len(run.manifest.skipped)
    assert int(accumulated.get("tests")) == len(run.records) + len(run.manifest.skipped)
    assert run.passed == (int(root.get("failures")) + int(root.get("errors")) == 0)


def test_weights_that_are_not_the_checkpoints_fail_a_case_of_the_ledger(sound):
    for faults in ((), ({"source": "a.weight", "path": "a.w1", "status": "scaled", "detail": "by 0.5"},)):
        run = replace(sound, manifest=replace(sound.manifest, weights={"summary": "30 weights", "faults": faults}))
        case = suite(parsed(run), "ledger").find("testcase[@classname='weights']")
        said = [failure.get("message") for failure in case.iter("failure")]
        wrong = "1 weight of the port is not the checkpoint's, the first a.weight, scaled: by 0.5"
        assert said == ([wrong] if faults else [])
        assert run.passed == (not faults)


def test_a_failure_names_metric_value_and_limit(broken):
    root = parsed(broken)
    case = suite(root, "accumulated").find("testcase[@name='L03.mlp prefill']")
    assert case.get("classname") == "L03.mlp"
    failure = case.find("failure")
    assert failure.get("type") == "injected"
    assert re.search(r"pcc -?0\.\d+ < 0\.99; .*rel_l2 \d[.\d]* > 0\.\d+ \(floor 0\.\d+\)", failure.get("message"))
    assert "model.layers.3.mlp" in failure.text
    record = next(record for record in broken.records if record.boundary == "L03.mlp")
    measured = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert float(measured["rel_l2"]) == record.rel_l2


def test_the_suite_says_what_ran_and_what_was_found(broken):
    properties = {one.get("name"): one.get("value") for one in suite(parsed(broken), "accumulated").find("properties")}
    assert properties["run"] == "broken"
    assert properties["precision"] == "accuracy"
    assert properties["finding.1"] == "L03.mlp: the output's channels are rolled by 3"
    assert properties["outcome"].startswith("FAIL: L03.mlp")


def test_modules_alone_have_a_suite_of_their_own(broken):
    root = parsed(broken)
    assert [one.get("name") for one in root] == ["accumulated", "isolated", "inherited", "ledger"]
    assert int(suite(root, "isolated").get("failures")) == sum(record.failed for record in broken.experiments)


def test_a_run_that_did_not_compare_everything_is_not_green(unfinished, incomparable):
    assert suite(parsed(unfinished), "ledger").find("testcase/error") is not None
    message = suite(parsed(incomparable), "ledger").find("testcase/failure").get("message")
    assert message.startswith(f"{len(incomparable.records)} of {incomparable.manifest.expected} expected comparisons")


def test_a_run_that_compared_nothing_is_not_green(tmp_path):
    writer = sample_runs.open_writer(tmp_path / "nothing", "llama")
    writer.manifest = replace(writer.manifest, expected=0)
    writer.finish()
    root = parsed(Run.load(tmp_path / "nothing"))
    assert (root.get("tests"), root.get("failures")) == ("1", "1")


def test_texts_that_xml_cannot_hold_are_marked(sound):
    records = [replace(sound.records[0], boundary="a\x00b\x1b]]>\ud800", verdict="diverged", note='\x07 <&">')]
    root = parsed(replace(sound, records=records))
    case = suite(root, "accumulated").find("testcase")
    assert case.get("classname") == "a\ufffdb\ufffd]]>\ufffd"
    assert '<&">' in case.find("failure").get("message")
