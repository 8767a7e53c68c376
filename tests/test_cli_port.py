# SPDX-License-Identifier: Apache-2.0
"""`tttdebug run --port`: a user's own file beside a Hugging Face folder, on the emulator."""

import json
import sys
from pathlib import Path

import pytest
from tiny_llamas import THREE_HEADS, tiny_llama

from tttdebug.tracking import Run
from typed_command import typed

PORTS = Path(__file__).parent / "ports"
IDS = " ".join(map(str, range(3, 40)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference on disk."""
    path = tmp_path_factory.mktemp("reference")
    tiny_llama(7, **THREE_HEADS).save_pretrained(path)
    return path


@pytest.fixture
def run(monkeypatch, capsys, folder, tmp_path):
    """Runs the command with a port and gives its exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def act(port, *arguments):
        common = ("--reference", folder, "--token-ids", IDS, "--decode-steps", "1", "--out", tmp_path / "run")
        code = typed("run", "--port", port, *common, *arguments)
        captured = capsys.readouterr()
        assert "ttnn" not in sys.modules  # the drop-in is gone
        return code, captured.out, captured.err

    return act


def test_a_file_with_its_drivers_beside_build_passes(run, tmp_path):
    code, out, _ = run(f"{PORTS / 'drive_ttt_llama.py'}:build", "--json")
    summary = json.loads(out)
    assert code == 0
    assert summary["passed"] is True
    assert summary["expected"] == summary["compared"] == 2 * 13
    assert {"rope_setup", "model.rotary_emb"} <= {entry["path"] for entry in summary["unpaired"]}
    loaded = Run.load(tmp_path / "run")
    assert loaded.manifest.device["kind"] == "emulated"
    assert "--port" in loaded.manifest.command


def test_a_module_whose_port_has_the_methods_passes_on_the_engine_that_is_asked_for(run, tmp_path):
    code, out, _ = run("ttt_qwen_style:build", "--engine", "ideal")
    assert code == 0
    assert "PASS" in out
    assert "Unpaired modules: 1 of the port" in out.replace("\n", " ").replace("  ", " ")
    assert set(Run.load(tmp_path / "run").frame["engine"]) == {"ideal"}


def write(folder, text):
    path = folder / "my_port.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_fault_exits_1_and_names_the_module(run, tmp_path):
    path = write(
        tmp_path,
        "from drive_ttt_llama import build as sound, prefill, decode\n"
        "def build(reference_model, device):\n"
        "    port = sound(reference_model, device)\n"
        "    mlp = port.layers[1].feed_forward\n"
        "    mlp.w1, mlp.w3 = mlp.w3, mlp.w1\n"
        "    return port\n",
    )
    code, out, _ = run(f"{path}:build")
    assert code == 1
    assert "L01.mlp differs from model.layers.1.mlp in prefill" in out


def test_pairs_of_a_file_override_those_that_are_found(run, tmp_path):
    from tttdebug.tracking.pairing import Pair
    from tttdebug.tracking.pairing_plan import PairingPlan, PlannedPair
    from tttdebug.tracking.plan_file import write_plan

    crossed = Pair("crossed", "layers.0.ff_norm", "model.layers.1.input_layernorm")
    write_plan(PairingPlan((PlannedPair(crossed, "mapping"),)), tmp_path / "pairs.toml")
    code, _, _ = run(f"{PORTS / 'drive_ttt_llama.py'}:build", "--pairs", tmp_path / "pairs.toml")
    assert code == 1
    assert Run.load(tmp_path / "run").first_divergence().boundary == "crossed"


def test_an_exception_of_the_port_is_shown_as_it_is_and_its_run_loads(run, tmp_path):
    path = write(
        tmp_path,
        "from drive_ttt_llama import build, prefill\n"
        "def decode(port, token_ids, positions):\n"
        "    raise RuntimeError('no decode yet')  # the line that the user must see\n",
    )
    code, _, err = run(path)
    assert code == 2
    assert "raise RuntimeError('no decode yet')  # the line that the user must see" in err
    assert "the port raised; the run so far is in" in err
    assert Run.load(tmp_path / "run").manifest.status == "failed: RuntimeError: no decode yet"
    assert len(Run.load(tmp_path / "run").records) == 13


def test_prompts_together_are_users_of_one_prefill(run, tmp_path):
    other = " ".join(map(str, range(60, 97)))
    port = f"{PORTS / 'drive_ttt_llama.py'}:build"
    code, _, _ = run(port, "--token-ids", other, "--together")
    assert code == 0
    loaded = Run.load(tmp_path / "run")
    assert set(loaded.frame["user"]) == {0, 1}
    assert sum(call["boundary"] == "L00.mlp" for call in loaded.calls) == 2  # a prefill and a step, of both
    code, _, err = run(port, "--token-ids", "5 6 7", "--together", "--out", tmp_path / "second")
    assert code == 2
    assert "prompts of 37, 3 tokens cannot be read in one prefill" in err


def test_a_port_of_build_model_can_be_built_by_a_file_too(run, tmp_path):
    path = write(
        tmp_path,
        "import tttdebug as td\n"
        "def build(reference_model, device):\n"
        "    return td.build_model(td.load_reference(reference_model), device, 'bf16')\n",
    )
    code, out, _ = run(path, "--json")
    assert code == 0
    assert json.loads(out)["unpaired"] == []
    assert {"L01.k_cache", "logits"} <= set(Run.load(tmp_path / "run").frame["boundary"])
    assert Run.load(tmp_path / "run").manifest.notes == ()


def test_build_that_raises_and_ports_without_drivers_say_so(run, tmp_path):
    code, _, err = run(f"{write(tmp_path, 'def build(model, device): return model.nothing_of_this_name')}:build")
    assert code == 2
    assert "raised while it built the port: AttributeError" in err
    code, _, err = run(f"{write(tmp_path, 'def build(model, device): pass')}:build")
    assert code == 2
    assert "returned None; let it return the port" in err
    code, _, err = run(f"{write(tmp_path, 'from drive_ttt_llama import build')}:build")
    assert code == 2
    assert "nothing says how to run a Llama3Transformer1D" in err
    code, _, err = run(f"{tmp_path / 'none.py'}:build")
    assert code == 2
    assert "there is no file" in err
    code, _, err = run(f"{PORTS / 'drive_ttt_llama.py'}:biuld")
    assert code == 2
    assert "has no function 'biuld'" in err
    assert not (tmp_path / "run").exists()
