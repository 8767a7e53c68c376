# SPDX-License-Identifier: Apache-2.0
"""`tttdebug gate --selftest`: a sound gate sees every fault that it must see, a lax one is told which it would miss."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import transformers
from tiny_llamas import tiny_llama

import tttdebug as td
from families.random_models import random_model
from tttdebug.faults import FAULTS, inject
from tttdebug.faults.classes import CLASSES
from tttdebug.faulty_runs import FaultyRuns
from tttdebug.job import Job, do
from tttdebug.job_sides import both_sides
from typed_command import heard

LAX = """
[[threshold]]
boundaries = "*"
pcc = 0.5
"""
TEXTS = (" ".join(str(7 * i % 250 + 3) for i in range(66)), " ".join(str(11 * i % 250 + 3) for i in range(40)))


def nothing(message, fraction):
    """A progress that nobody watches."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sound run of a tiny Llama with two prompts, one of a port with a fault, and files of thresholds."""
    folder = tmp_path_factory.mktemp("gated")
    tiny_llama(hidden_size=128, intermediate_size=192, vocab_size=256, num_hidden_layers=3).save_pretrained(
        folder / "model"
    )
    job = Job(str(folder / "model"), token_ids=TEXTS, decode_steps=2, out=folder / "sound", command="tttdebug run …")
    do(job, nothing)
    do(Job(str(folder / "model"), decode_steps=0, token_ids=TEXTS, inject="lofi@L01.mlp", out=folder / "lofi"), nothing)
    (folder / "lax.toml").write_text(LAX)
    return folder


@pytest.fixture
def gate(folder, monkeypatch, capsys):
    """Runs `tttdebug gate … --selftest` where the runs are and gives its exit code, standard output and error."""
    monkeypatch.chdir(folder)
    return heard(capsys, "gate")


def test_the_default_thresholds_see_all_that_must_be_seen(gate):
    code, out, err = gate("sound", "--selftest", "--faults", "26", "--seed", "5", "--json")
    assert err == ""
    result = json.loads(out)
    faults = result["outcomes"]
    assert (code, result["passed"], len(faults)) == (0, True, 26)
    assert {fault["of_class"] for fault in faults} == {each.name for each in CLASSES}
    assert len({(fault["fault"], fault["boundary"]) for fault in faults}) == 26
    must = [fault for fault in faults if fault["must_be_caught"]]
    assert len(must) > 15
    assert all(fault["caught"] and fault["by"] for fault in must)
    assert all(fault["rel_l2"] > fault["explained_rel_l2"] for fault in must if fault["rel_l2"] != "nan")


def test_lax_thresholds_exit_1_with_what_they_miss_and_limits_that_mend_it(gate, folder, tmp_path):
    asked = ("sound", "--selftest", "--faults", "13", "--seed", "2")
    code, out, _ = gate(*asked, "--thresholds", "lax.toml", "--json", "--junit", str(tmp_path / "report.xml"))
    result = json.loads(out)
    unseen = [fault for fault in result["outcomes"] if fault["unseen"]]
    assert (code, result["passed"]) == (1, False)
    assert len(unseen) > 2
    assert all(fault["tighter"]["metric"] for fault in unseen)
    assert result["mended"] == len(unseen)

    (suite,) = ElementTree.parse(tmp_path / "report.xml").getroot()
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert failed == {f"{fault['fault']} at {fault['boundary']}" for fault in unseen}

    (folder / "tightened.toml").write_text(LAX + result["proposal"])
    assert gate(*asked, "--thresholds", "tightened.toml")[0] == 0

    _, text, _ = gate(*asked, "--thresholds", "lax.toml")
    assert f"of {sum(f['must_be_caught'] for f in result['outcomes'])} that must be, {len(unseen)} unseen" in text
    assert all(f"UNSEEN      {fault['fault']}@{fault['boundary']} --seed {fault['seed']}" in text for fault in unseen)


def test_a_gate_that_the_sound_run_fails_is_not_tested(gate, folder):
    (folder / "strict.toml").write_text('[[threshold]]\nboundaries = "*"\nrel_l2 = 1e-9\n')
    code, out, _ = gate("sound", "--selftest", "--thresholds", "strict.toml")
    assert code == 1
    assert "a gate that fails everything catches everything" in out
    assert "L00.mlp" in out


def test_nothing_is_proved_where_no_fault_must_be_caught(gate):
    code, out, _ = gate("sound", "--selftest", "--classes", "formats", "--faults", "1", "--seed", "1")
    assert code == 1
    assert "nothing is proved" in out


def test_only_the_classes_that_are_named(gate):
    _, out, _ = gate("sound", "--selftest", "--classes", "nonfinite,users", "--faults", "4", "--json")
    assert {fault["of_class"] for fault in json.loads(out)["outcomes"]} == {"nonfinite", "users"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lofi", "--selftest"], "lofi has the fault lofi@L01.mlp already"),
        (["sound", "--selftest", "--classes", "weigths"], "no class of faults 'weigths'; there are weights, order"),
        (["nowhere", "--selftest"], "is not a run"),
    ],
)
def test_no_result_exits_2_in_one_line(gate, arguments, says):
    code, out, err = gate(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "what",
    [
        "gate_up_exchanged@L01.mlp",
        "norm_eps@final_norm",
        "kv_of_another_layer@L02.self_attn",
        "users_in_one_slot@L02.self_attn",
        "attention_residual_missing@L01.layer_out",
    ],
)
def test_a_run_from_the_faulty_layer_on_is_the_whole_run(folder, tmp_path, what):
    job, fault, at = Job(str(folder / "model"), token_ids=TEXTS, decode_steps=2), *what.split("@")
    with both_sides(job, nothing) as sides:
        run, _ = FaultyRuns(job, sides, tmp_path / "sound").run(fault, at, 9, tmp_path / "faulty")
        port = td.build_model(sides.reference, sides.built.port.device)
        inject(port, what, 9)
        whole = td.track(port, sides.reference, sides.prompts, 2)
    assert measured(run) == measured(whole)
    assert run.manifest.expected == run.manifest.compared == whole.manifest.expected
    assert run.profiles.keys() == whole.profiles.keys()


def measured(run):
    """What was compared, and how it erred; as text, in which a nan is like another."""
    return {
        record.key: f"{record.rel_l2} {record.pcc} {record.floor_rel_l2} {record.verdict}" for record in run.records
    }


def test_encoders_are_tested_too(gate, folder):
    config = transformers.BertConfig(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=64,
        intermediate_size=96,
        vocab_size=256,
        max_position_embeddings=128,
    )
    random_model(config, "BertModel", 5).save_pretrained(folder / "bert")
    do(Job(str(folder / "bert"), token_ids=TEXTS[:1], decode_steps=0, out=folder / "encoded"), nothing)
    code, out, _ = gate("encoded", "--selftest", "--faults", "8", "--seed", "4", "--json")
    result = json.loads(out)
    assert (code, len(result["outcomes"])) == (0, 8)
    assert "cache" in dict(result["not_tried"])


def test_every_fault_is_of_one_class():
    listed = [name for each in CLASSES for name in each.faults]
    assert sorted(listed) == sorted(fault.name for fault in FAULTS)
    assert [each.name for each in CLASSES if not each.must_be_caught] == ["formats"]


def test_a_folder_of_runs_is_left_as_it_was(gate, folder):
    before = sorted(Path(folder / "sound").rglob("*"))
    gate("sound", "--selftest", "--faults", "1", "--classes", "nonfinite")
    assert sorted(Path(folder / "sound").rglob("*")) == before
