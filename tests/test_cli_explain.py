# SPDX-License-Identifier: Apache-2.0
"""Explaining as its user types it: from a run's folder, in the same command, and where that cannot be done."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from tiny_llamas import THREE_HEADS, tiny_llama

from families.random_models import random_model
from tttdebug.analysis.explanation import Explanation
from tttdebug.job import Job
from tttdebug.tracking import Run
from tttdebug.tracking.manifest import Manifest
from typed_command import FORTY_TOKENS, heard, typed

PORTS = Path(__file__).parent / "ports"


@pytest.fixture
def tttdebug(capsys, monkeypatch):
    """The command's exit code, standard output in one line, and standard error."""
    monkeypatch.setenv("COLUMNS", "200")
    return heard(capsys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference on disk."""
    path = tmp_path_factory.mktemp("reference")
    tiny_llama(7, **THREE_HEADS).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """Two runs of that model, with and without a fault."""
    runs = tmp_path_factory.mktemp("runs")
    common = ("run", "--model", folder, "--token-ids", FORTY_TOKENS, "--decode-steps", "1", "--quiet")
    assert typed(*common, "--out", runs / "sound") == 0
    assert typed(*common, "--inject", "gate_up_exchanged@L01.mlp", "--out", runs / "broken") == 1
    return runs


@pytest.fixture
def runs(made, tmp_path):
    """Copies of them that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


def test_a_broken_run_is_explained_from_another_folder_and_shown_again(tttdebug, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = tttdebug("explain", runs / "broken", "--prompts", "2")
    assert code == 1
    for said in ("1 of 1: L01.mlp, weights_exchanged", "rel_l2", "evidence", "change", "model.layers.1.mlp", "FOUND"):
        assert said in out
    loaded = Run.load(runs / "broken")
    assert {record.mode for record in loaded.experiments} == {"isolated", "inherited"}
    assert next(record for record in loaded.records if record.boundary == "L01.mlp").verdict == "injected"
    assert (runs / "broken" / "figures" / "error_over_depth.png").is_file()
    code, out, _ = tttdebug("show", runs / "broken")
    assert code == 0
    assert "1 of 1: L01.mlp, weights_exchanged" in out


def test_a_run_is_explained_twice_alike(tttdebug, runs):
    tttdebug("explain", runs / "broken", "--prompts", "2")
    first = Explanation.load(Run.load(runs / "broken"))
    code, out, err = tttdebug("explain", runs / "broken", "--prompts", "2", "--json")
    assert (code, err) == (1, "")
    assert [finding["boundary"] for finding in json.loads(out)["findings"]] == ["L01.mlp"]
    again = Explanation.load(Run.load(runs / "broken"))
    assert str(again.findings) == str(first.findings)
    assert str(again.run.records) == str(first.run.records)


def test_a_sound_run_has_nothing_wrong_but_what_its_formats_cost(tttdebug, runs):
    code, out, _ = tttdebug("explain", runs / "sound", "--prompts", "2")
    assert code == 0
    assert "NOTHING WRONG" in out
    assert "bfloat8_b HiFi2 in FF1/FF3 and FF2" in out


def test_run_explains_at_once(tttdebug, folder, tmp_path):
    fault = ("--inject", "gate_up_exchanged@L00.mlp", "--explain", "--json")
    code, out, _ = tttdebug(
        *("run", "--model", folder, "--token-ids", FORTY_TOKENS, "--decode-steps", "0", "--out", tmp_path / "run"),
        *fault,
    )
    summary = json.loads(out)
    assert code == 1
    assert summary["findings"][0]["cause"] == "weights_exchanged"
    assert Run.load(tmp_path / "run").manifest.job["inject"] == "gate_up_exchanged@L00.mlp"


def test_a_port_of_your_own_is_explained(tttdebug, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    port = tmp_path / "my_port.py"
    port.write_text(
        "from drive_ttt_llama import build as sound, prefill, decode\n"
        "def build(reference_model, device):\n"
        "    port = sound(reference_model, device)\n"
        "    mlp = port.layers[1].feed_forward\n"
        "    mlp.w1, mlp.w3 = mlp.w3, mlp.w1\n"
        "    return port\n",
        encoding="utf-8",
    )
    common = (
        "--reference",
        folder,
        "--token-ids",
        FORTY_TOKENS,
        "--decode-steps",
        "1",
        "--out",
        tmp_path / "run",
        "--quiet",
    )
    assert tttdebug("run", "--port", f"{port}:build", *common)[0] == 1
    code, out, err = tttdebug("explain", tmp_path / "run", "--prompts", "2")
    assert code == 1, err
    assert "L01.mlp, weights_exchanged" in out


def test_swapping_the_broken_module_takes_the_error_away(tttdebug, runs):
    code, out, _ = tttdebug("swap", runs / "broken", "L01.mlp")
    assert code == 0
    assert "L01.mlp" in out
    assert "the port as it is" in out


def test_bisection_finds_the_broken_module(tttdebug, runs):
    code, out, err = tttdebug("bisect", runs / "broken")
    assert code == 1, err
    assert "L01.mlp: " in out


def test_a_run_made_in_python_says_what_to_call_and_what_its_files_say(tttdebug, runs):
    replaced = replace(Manifest.read(runs / "broken" / "manifest.json"), job={})
    replaced.write(runs / "broken" / "manifest.json")
    code, out, err = tttdebug("explain", runs / "broken")
    assert code == 2
    assert "call td.explain(run)" in err
    assert "first divergence" in out
    assert "L01.mlp differs from model.layers.1.mlp" in out


def test_a_reference_that_has_changed_is_not_explained(tttdebug, runs, folder, tmp_path):
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    tiny_llama(8, **THREE_HEADS).save_pretrained(moved)
    manifest = Manifest.read(runs / "broken" / "manifest.json")
    replace(manifest, job={**manifest.job, "model": str(moved)}).write(runs / "broken" / "manifest.json")
    code, _, err = tttdebug("explain", runs / "broken")
    assert code == 2
    assert "the reference's weights changed since" in err
    assert Run.load(runs / "broken").manifest.finished


def test_code_within_a_run_is_not_executed(tttdebug, runs):
    (runs / "broken" / "port.py").write_text("raise SystemExit('executed')\n")
    manifest = Manifest.read(runs / "broken" / "manifest.json")
    for job in ({"port": f"{runs / 'broken' / 'port.py'}:build"}, {"family": str(runs / "broken" / "port.py")}):
        replace(manifest, job={**manifest.job, **job}).write(runs / "broken" / "manifest.json")
        code, _, err = tttdebug("explain", runs / "broken")
        assert code == 2
        assert "nothing in a run is executed" in err


def test_a_run_that_was_cut_short_is_not_explained(tttdebug, runs):
    manifest = Manifest.read(runs / "broken" / "manifest.json")
    replace(manifest, status="unfinished", compared=0).write(runs / "broken" / "manifest.json")
    code, _, err = tttdebug("explain", runs / "broken")
    assert code == 2
    assert "only a whole run can be explained" in err


def test_an_explanation_that_was_cut_short_can_be_made_again(tttdebug, runs):
    manifest = Manifest.read(runs / "broken" / "manifest.json")
    replace(manifest, status="unfinished").write(runs / "broken" / "manifest.json")
    code, _, _ = tttdebug("explain", runs / "broken", "--prompts", "1")
    assert code == 1
    assert Run.load(runs / "broken").manifest.finished


def test_what_cannot_have_a_fault_says_so(tttdebug, folder, tmp_path):
    common = ("run", "--model", folder, "--token-ids", FORTY_TOKENS, "--out", tmp_path / "run", "--inject")
    code, _, err = tttdebug(*common, "gate_up_swapped")
    assert code == 2
    assert "there is no fault 'gate_up_swapped'; nearest: gate_up_exchanged" in err
    code, _, err = tttdebug(*common, "gate_up_exchanged@L07.mlp")
    assert code == 2
    assert "L07.mlp" in err


def test_a_job_comes_back_from_its_manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my_port.py", "pairs.toml", "model", "layers.json", "a.png"):
        Path(name).touch()
    job = Job(
        model="model",
        port="my_port.py:make",
        pairs=Path("pairs.toml"),
        images=(Path("a.png"),),
        precision="layers.json",
        prompts=("a", "b"),
        token_ids=("1 2",),
        out=Path("out"),
        command="tttdebug run",
    )
    content = json.loads(json.dumps(job.to_json()))
    again = Job.from_json({**content, "of_a_later_version": 1})
    whole = replace(
        job,
        model=str(tmp_path / "model"),
        port=f"{tmp_path / 'my_port.py'}:make",
        pairs=tmp_path / "pairs.toml",
        images=(tmp_path / "a.png",),
        precision=str(tmp_path / "layers.json"),
        out=None,
    )
    assert again == whole
    assert Job.from_json(again.to_json()) == again


def test_names_that_are_no_paths_stay_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama").mkdir()  # the name of a model comes first, as in load_reference
    assert Job(model="llama", port="my_package.ports:build").to_json()["model"] == "llama"
    assert Job(port="my_package.ports:build").to_json()["port"] == "my_package.ports:build"
    assert Job(model="org/name").to_json()["model"] == "org/name"


def test_an_encoder_is_explained_swapped_and_bisected(tttdebug, tmp_path):
    shape = {"hidden_size": 96, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 72}
    config = transformers.BertConfig(**shape, vocab_size=128, max_position_embeddings=64)
    random_model(config, "BertModel", seed=1).save_pretrained(tmp_path / "bert")
    faulty = ("--model", tmp_path / "bert", "--token-ids", FORTY_TOKENS, "--inject", "weight_transposed@L01.self_attn")
    code, out, _ = tttdebug("run", *faulty, "--explain", "--out", tmp_path / "run")
    assert code == 1
    assert "FOUND  L01.self_attn: weight_transposed." in out
    code, out, _ = tttdebug("explain", tmp_path / "run")
    assert code == 1
    assert "FOUND  L01.self_attn: weight_transposed." in out
    code, out, _ = tttdebug("swap", tmp_path / "run", "L01.self_attn")
    assert code == 0
    assert "worst input" in out
    code, out, _ = tttdebug("bisect", tmp_path / "run")
    assert code == 1
    assert "L01.self_attn: " in out


def test_a_sound_run_has_nothing_to_bisect(tttdebug, runs):
    code, _, err = tttdebug("bisect", runs / "sound")
    assert code == 2
    assert "nothing to bisect: in the end the port errs hardly more than its number formats; it ends in KL" in err
    assert "a sound port of the same settings in KL" in err or "times as much error" in err
