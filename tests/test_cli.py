# SPDX-License-Identifier: Apache-2.0
"""The command as its user types it: exit codes, what it prints, and one clear line for whatever it cannot do."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from tttdebug import cli

SHORT = [
    "--layers",
    "2",
    "--decode-steps",
    "1",
    "--prompt",
    "The quick brown fox jumps over the lazy dog, again and again.",
]


@pytest.fixture
def tttdebug(monkeypatch, capsys):
    """Runs the command in this process and gives its exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tttdebug", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def good_run(tmp_path_factory):
    """A saved run of two layers of the real model."""
    from pathlib import Path

    from tttdebug.job import Job, do

    out = tmp_path_factory.mktemp("runs") / "good"
    do(Job(layers=2, decode_steps=1, prompts=(SHORT[-1],), out=Path(out), command="tttdebug run"), lambda *_: None)
    return out


def test_a_good_port_exits_0_and_says_where_the_run_is(tttdebug, tmp_path):
    code, out, _ = tttdebug("run", *SHORT, "--out", tmp_path / "run")
    assert code == 0
    assert "PASS" in out
    for word in ("L00", "L01", "self_attn", "mlp", "layer_out", "logits", "top-1 agreement", "port writes"):
        assert word in out
    assert str(tmp_path / "run") in out.replace("\n", "")
    assert (tmp_path / "run" / "records.parquet").is_file()


def test_a_broken_port_exits_1_and_names_the_module_first(tttdebug, tmp_path):
    from tttdebug.references import load_reference

    state = dict(load_reference("llama", layers=2).model.state_dict())
    gate, up = "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight"
    state[gate], state[up] = state[up], state[gate]
    save_file({name: weight.clone() for name, weight in state.items()}, tmp_path / "broken.safetensors")
    code, out, _ = tttdebug("run", *SHORT, "--port-weights", tmp_path / "broken.safetensors", "--out", tmp_path / "run")
    assert code == 1
    assert "FAIL" in out
    assert "inherited its error" in out.replace("\n", " ")
    assert "first divergence" in out
    assert "L01.mlp differs from model.layers.1.mlp in prefill" in out


def test_json_is_one_object_and_nothing_else(tttdebug, tmp_path):
    code, out, _ = tttdebug("run", *SHORT, "--json", "--out", tmp_path / "run")
    summary = json.loads(out)
    assert code == 0
    assert summary["passed"] is True
    assert summary["expected"] == summary["compared"] == sum(summary["verdicts"].values())
    assert summary["first_divergence"] is None


def test_quiet_prints_the_verdict_and_the_folder_only(tttdebug, tmp_path):
    code, out, err = tttdebug("run", *SHORT, "--quiet", "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    assert out.startswith("PASS")
    assert "self_attn" not in out


def test_show_prints_a_saved_run(tttdebug, good_run):
    code, out, _ = tttdebug("show", good_run, "--worst", "3")
    assert code == 0
    assert "Worst 3 of 34 comparisons" in out


def test_doctor_says_what_is_here_and_what_is_missing(tttdebug):
    code, out, _ = tttdebug("doctor")
    assert code == 0
    for subject in ("python", "torch", "device emulated", "device ttnn", "cache", "model llama"):
        assert subject in out


def truncated_gguf(folder):
    (folder / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x01" * 40)
    return folder / "cut.gguf"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda tmp: ["run", "--model", "lama"], "lama"),
        (lambda tmp: ["run", "--weights", tmp / "absent.gguf"], "absent.gguf"),
        (lambda tmp: ["run", "--weights", truncated_gguf(tmp)], "cut.gguf"),
        (lambda tmp: ["run", "--weights", tmp], "config.json"),
        (lambda tmp: ["run", "--layers", "31"], "30"),
        (lambda tmp: ["run", "--layers", "0"], "layers"),
        (lambda tmp: ["run", "--prompt", " "], "empty"),
        (lambda tmp: ["run", "--prompt", f"@{tmp}/absent.txt"], "absent.txt"),
        (lambda tmp: ["run", "--layers", "1", "--prompt", "word " * 9000], "context"),
        (lambda tmp: ["run", "--decode-steps", "-1"], "decode-steps"),
        (lambda tmp: ["run", "--precision", "int4"], "precision"),
        (lambda tmp: ["run", "--device", "tpu"], "tpu"),
        (lambda tmp: ["run", "--device", "ttnn"], "ttnn"),
        (lambda tmp: ["run", "--out", "/proc/nothing/here"], "/proc"),
        (lambda tmp: ["run", "--out", __file__], "not an empty folder"),
        (lambda tmp: ["run", "--port-weights", tmp / "absent.safetensors"], "absent.safetensors"),
        (lambda tmp: ["show", tmp], "not a run"),
        (lambda tmp: ["dashboard", tmp / "absent"], "absent"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(tttdebug, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = arguments(tmp_path)
    before = set(tmp_path.rglob("*"))
    code, out, err = tttdebug(*given)
    assert code == 2
    assert "Traceback" not in err
    assert said in err.replace("\n", "")
    if "Usage" not in err:
        assert len(err.strip().splitlines()) == 1, err
    assert out == ""
    assert set(tmp_path.rglob("*")) == before, "nothing may be left behind"


def test_debug_shows_the_traceback(tttdebug, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["tttdebug", "--debug", "show", str(tmp_path)])
    from tttdebug.errors import RunError

    with pytest.raises(RunError):
        cli.main()


def test_importing_tttdebug_loads_neither_torch_nor_transformers():
    import subprocess

    heavy = ("torch", "transformers", "pandas")
    check = f"import sys, tttdebug, tttdebug.cli; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_every_public_name_is_there():
    import tttdebug

    for name in tttdebug.__all__:
        assert getattr(tttdebug, name) is not None
    assert isinstance(tttdebug.compare(torch.ones(2, 2), torch.ones(2, 2)), tttdebug.Comparison)
    with pytest.raises(AttributeError, match="it offers"):
        tttdebug.nonsense  # noqa: B018
