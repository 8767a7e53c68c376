# SPDX-License-Identifier: Apache-2.0
"""`tttdebug run` with its golden cache, and `tttdebug cache`: what is said, and the exit codes."""

import json
import os

import pytest
from tiny_llamas import tiny_llama

from typed_command import heard


@pytest.fixture
def tttdebug(capsys):
    """Runs the command in this process and gives its exit code, standard output and standard error."""
    return heard(capsys)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_llama(3, num_hidden_layers=1).save_pretrained(folder)
    return folder


@pytest.fixture
def goldens(tmp_path, monkeypatch):
    """The folder of the goldens of an empty cache."""
    monkeypatch.setenv("TTTDEBUG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TTTDEBUG_CACHE_LIMIT", raising=False)
    return tmp_path / "cache" / "goldens"


@pytest.fixture
def run(tttdebug, model, tmp_path, goldens):
    """`tttdebug run` of the tiny model into a folder of that name."""

    def run_(name, *options):
        return tttdebug(
            *("run", "--model", model, "--token-ids", "5 17 80 3", "--decode-steps", "1"),
            *("--out", tmp_path / name, *options),
        )

    return run_


def test_the_second_run_reads_the_golden_and_says_so(run):
    code, first, _ = run("first")
    assert code == 0
    assert "golden cache" not in first
    code, second, _ = run("second")
    assert code == 0
    assert "reference from the golden cache: 1 of 1 prompt" in second
    code, summary, _ = run("third", "--json")
    assert json.loads(summary)["golden"]["used"] == [0]


def test_a_run_without_the_cache_leaves_nothing(run, goldens):
    assert run("run", "--no-golden-cache")[0] == 0
    assert not goldens.exists()


def test_a_golden_that_was_given_and_is_another_fails_the_run(run, tttdebug, goldens, tmp_path):
    run("first")
    (golden,) = goldens.glob("[0-9a-f]*")
    assert run("same", "--no-golden-cache", "--golden", golden)[0] == 0
    code, out, _ = run("other", "--no-golden-cache", "--golden", golden, "--decode-steps", "2")
    assert code == 1
    said = " ".join(out.split())
    assert "FAIL every gate holds, but a golden that was given is refused" in said
    assert "is of another decode_steps (1 there, 2 now)" in said
    code, out, _ = tttdebug("gate", tmp_path / "other")
    assert code == 1
    assert "a golden that was given is not that of this run" in " ".join(out.split())


def test_list_verify_and_prune(run, tttdebug, goldens):
    code, out, _ = tttdebug("cache", "list")
    assert code == 0
    assert "0 goldens, 0 B of at most 10.0 GiB" in out
    run("first")
    (golden,) = goldens.glob("[0-9a-f]*")
    code, out, _ = tttdebug("cache", "list")
    assert code == 0
    for word in (golden.name[:8], "LlamaForCausalLM", "float32", "4 + 1", "1 golden,"):
        assert word in out
    code, out, _ = tttdebug("cache", "verify")
    assert code == 0
    assert "every golden is as it was written" in out
    os.truncate(golden / "0000.safetensors", 500)
    code, out, _ = tttdebug("cache", "verify")
    assert code == 1
    assert f"{golden / '0000.safetensors'} is damaged: it has 500 bytes" in out.replace("\n", "")
    code, out, _ = tttdebug("cache", "verify", "--json")
    assert code == 1
    assert "500 bytes" in json.loads(out)["goldens"][0]["fault"]
    code, out, _ = tttdebug("cache", "prune", "--damaged")
    assert code == 0
    assert "removed 1 golden," in out
    run("second")
    code, out, _ = tttdebug("cache", "prune", "--limit", "1K", "--json")
    assert (code, len(json.loads(out)["goldens"])) == (0, 1)
    run("third")
    assert tttdebug("cache", "prune", "--all")[0] == 0
    assert "0 goldens" in tttdebug("cache", "list")[1]


def test_what_cannot_be_done_is_one_line_and_exit_code_2(tttdebug, goldens, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments in (("list", "--cache", tmp_path / "file"), ("prune", "--limit", "lots")):
        code, _, err = tttdebug("cache", *arguments)
        assert code == 2
        assert err.startswith("tttdebug: ")
        assert err.count("\n") == 1


def test_a_streamed_reference_gives_the_same_run(run, tmp_path):
    import tttdebug as td

    codes = [run(name, *options)[0] for name, options in {"whole": (), "streamed": ("--stream-reference",)}.items()]
    assert codes == [0, 0]
    whole, streamed = (td.Run.load(tmp_path / name) for name in ("whole", "streamed"))
    assert streamed.manifest.model["streamed"]
    assert [(str(record.key), record.rel_l2, record.floor_rel_l2) for record in whole.records] == [
        (str(record.key), record.rel_l2, record.floor_rel_l2) for record in streamed.records
    ]
