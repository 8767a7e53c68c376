# SPDX-License-Identifier: Apache-2.0
"""`tttdebug pair`: a TT-Transformers lookalike beside its checkpoint; printed, saved, edited, and given back."""

import sys
from pathlib import Path

import pytest
from tiny_llamas import tiny_llama

from tttdebug.tracking.plan_file import read_plan
from typed_command import typed

PORTS = Path(__file__).parent / "ports"
SHAPE = {
    "hidden_size": 64,
    "head_dim": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "vocab_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder with a small Llama."""
    path = tmp_path_factory.mktemp("checkpoint")
    tiny_llama(7, **SHAPE).save_pretrained(path)
    return path


@pytest.fixture
def pair(monkeypatch, capsys, folder):
    """Runs the command in this process and gives its exit code, standard output and standard error."""
    monkeypatch.syspath_prepend(PORTS)
    monkeypatch.setenv("COLUMNS", "200")

    def run(port, *arguments):
        ports = {path.stem for path in PORTS.glob("*.py")}
        for name in ports & sys.modules.keys():  # they took the ttnn that was installed when they were imported
            monkeypatch.delitem(sys.modules, name)
        code = typed("pair", "--port", port, "--reference", folder, *arguments)
        for name in ports & sys.modules.keys():
            monkeypatch.delitem(sys.modules, name)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("port", ["drive_ttt_llama.py", "ttt_qwen_style.py"])
def test_a_lookalike_is_paired_whole(pair, tmp_path, port):
    code, out, err = pair(f"{PORTS / port}:build", "--out", tmp_path / "pairs.toml")
    assert (code, err) == (0, "")
    for word in ("L{i}.self_attn", "0-1", "found by", "not compared, of the reference", "q_proj", "saved to"):
        assert word in out
    plan = read_plan(tmp_path / "pairs.toml")
    in_layer = ["input_norm", "self_attn", "post_attn_norm", "mlp", "layer_out"]
    layers = [f"L{i:02d}.{part}" for i in range(2) for part in in_layer]
    assert [found.boundary for found in plan.pairs] == ["embed", *layers, "final_norm", "logits"]
    assert {left.class_name for left in plan.unpaired_port} <= {"Llama3Transformer1D", "RotarySetup1D", "Model"}


def test_an_edited_plan_is_taken_as_it_is(pair, tmp_path):
    port, file = f"{PORTS / 'drive_ttt_llama.py'}:build", tmp_path / "pairs.toml"
    pair(port, "--out", file)
    text = file.read_text().replace('layers = "0-1"', 'layers = "1"').replace("L{i}.mlp", "L{i}.my_mlp")
    file.write_text(text)
    code, out, _ = pair(port, "--pairs", file, "--out", tmp_path / "again.toml")
    again = read_plan(tmp_path / "again.toml")
    assert code == 0
    assert "the plan that was given leaves it out" in out
    assert [found.boundary for found in again.pairs if "mlp" in found.boundary] == ["L01.my_mlp"]


def test_a_few_pairs_by_hand_leave_the_rest_to_be_found(pair, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[[pair]]\nboundary = "first"\nport = "layers.0"\nreference = "model.layers.0"\n')
    code, out, _ = pair(f"{PORTS / 'drive_ttt_llama.py'}:build", "--pairs", file)
    assert code == 0
    assert "first" in out
    assert "L01.layer_out" in out
    assert "1 by mapping" in out


@pytest.mark.parametrize(
    ("port", "arguments", "said"),
    [
        ("no_such_module_of_mine:build", (), "there is no module 'no_such_module_of_mine'"),
        ("{ports}/drive_ttt_llama.py:bild", (), "has no function 'bild'"),
        ("{ports}/drive_ttt_llama.py:build", ("--pairs", "{tmp}/none.toml"), "cannot be read"),
        ("{ports}/drive_ttt_llama.py:build", ("--pairs", "{tmp}/wrong.toml"), "nearest: layers"),
        ("{ports}/drive_ttt_llama.py:build", ("--out", "{tmp}/no/such.toml"), "cannot be written"),
        ("{tmp}/nothing.py:build", (), "returned None"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(pair, tmp_path, port, arguments, said):
    (tmp_path / "wrong.toml").write_text('[[pair]]\nboundary = "x"\nport = "layer.0"\nreference = "model.norm"\n')
    (tmp_path / "nothing.py").write_text("def build(reference, device): ...\n")
    words = [word.format(tmp=tmp_path, ports=PORTS) for word in (port, *arguments)]
    code, _, err = pair(*words)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
