# SPDX-License-Identifier: Apache-2.0
"""The command as its user types it: exit codes, what it prints, and one clear line for whatever it cannot do."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from tttdebug import cli
from typed_command import heard

SHORT = [
    "--layers",
    "2",
    "--decode-steps",
    "1",
    "--prompt",
    "The quick brown fox jumps over the lazy dog, again and again.",
]


@pytest.fixture
def tttdebug(capsys):
    """Runs the command in this process and gives its exit code, standard output and standard error."""
    return heard(capsys)


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


@pytest.mark.parametrize(
    ("variables", "state", "said"),
    [
        ({}, "missing", "there is no card"),
        ({"TT_METAL_MOCK_CLUSTER_DESC_PATH": "n150.yaml"}, "ok", "mock cluster (n150.yaml): plumbing only"),
        ({"TT_METAL_MOCK_CLUSTER_DESC_PATH": "n151.yaml"}, "broken", "says n151.yaml, which is not there"),
        ({"TT_METAL_SIMULATOR": "n150.yaml"}, "ok", "the vendor's simulator (n150.yaml)"),
    ],
)
def test_doctor_says_what_an_installed_ttnn_would_drive(monkeypatch, tmp_path, variables, state, said):
    from tttdebug.reporting import health

    monkeypatch.chdir(tmp_path)
    (tmp_path / "n150.yaml").touch()
    (tmp_path / "ttnn.py").touch()  # found, and not imported
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(health, "CARDS", tmp_path / "no-cards")
    for name in ("TT_METAL_MOCK_CLUSTER_DESC_PATH", "TT_METAL_SIMULATOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = {finding.subject: finding for finding in health.examine()}["device ttnn"]
    assert (found.state, said in found.detail) == (state, True)


def truncated_gguf(folder):
    (folder / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x01" * 40)
    return folder / "cut.gguf"


def test_a_model_without_a_tokenizer_takes_token_ids(tttdebug, tmp_path):
    import transformers

    from families.random_models import random_model

    sizes = {"hidden_size": 96, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.Qwen3Config(**sizes, vocab_size=101, num_key_value_heads=1, head_dim=80)
    random_model(config, "Qwen3ForCausalLM", seed=3).save_pretrained(tmp_path / "model")
    run = ("run", "--model", tmp_path / "model", "--precision", "bf16", "--engine", "ideal", "--decode-steps", "2")
    code, _, err = tttdebug(*run, "--out", tmp_path / "none")
    assert code == 2
    assert "no tokenizer; give the prompt as token ids (--token-ids)" in err
    code, out, _ = tttdebug(*run, "--token-ids", "5 17 80 3", "--token-ids", "9,9,4", "--out", tmp_path / "run")
    assert code == 0
    assert "4 tokens, 3 tokens" in out


def test_no_more_tensors_are_saved_than_the_budget_allows(tttdebug, tmp_path):
    from tttdebug.tracking import Run

    picture(tmp_path / "fractal.png")
    model, image = vit_folder(tmp_path / "vit"), ("--image", tmp_path / "fractal.png")
    run = ("run", "--model", model, *image, "--engine", "ideal", "--save-tensors", "all", "--tensor-budget", "0")
    code, out, _ = tttdebug(*run, "--out", tmp_path / "run")
    assert code == 0
    assert "tensor budget of 0 MiB is used up" in out.replace("\n", " ")
    kept = Run.load(tmp_path / "run")
    assert kept.records
    assert not any(kept.tensors(record.key) for record in kept.records)


def vit_folder(folder, processor=True):
    """A small ViT with weights that are not as they were drawn, as `save_pretrained` keeps it."""
    import transformers

    from families.random_models import random_model

    config = transformers.ViTConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        num_labels=37,
    )
    random_model(config, "ViTForImageClassification", seed=3).save_pretrained(folder)
    if processor:
        size = {"height": 32, "width": 32}
        transformers.ViTImageProcessorPil(size=size, image_mean=[0.0] * 3).save_pretrained(folder)
    return folder


def picture(path, mode="RGB"):
    from PIL import Image

    Image.effect_mandelbrot((48, 40), (-2.0, -1.5, 1.0, 1.5), 60).convert(mode).save(path)
    return path


def test_a_model_of_images_reads_pictures(tttdebug, tmp_path):
    from tttdebug.tracking import Run

    folder, image = vit_folder(tmp_path / "vit"), picture(tmp_path / "cat.png")
    run = ("run", "--model", "vit", "--weights", folder, "--image", image, "--image", picture(tmp_path / "l.png", "L"))
    code, out, err = tttdebug(*run, "--precision", "bf16", "--out", tmp_path / "run")
    assert code == 0, err
    assert "cat.png, prepared by the model's image processor" in out.replace("\n", " ")
    saved = Run.load(tmp_path / "run")
    assert {record.boundary for record in saved.records} >= {"embed", "L01.self_attn", "classifier"}
    assert {record.key.user for record in saved.records} == {0, 1}


def test_the_models_own_image_processor_prepares_what_it_reads(tmp_path):
    import numpy as np
    from PIL import Image

    from tttdebug.references import load_reference
    from tttdebug.tracking.images import read_image

    path = picture(tmp_path / "cat.png")
    own = read_image(load_reference(vit_folder(tmp_path / "with")), path).pixels
    plain = read_image(load_reference(vit_folder(tmp_path / "without", processor=False)), path).pixels
    resized = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1) / 255
    assert torch.allclose(plain, (values - 0.5) / 0.5, atol=1e-5)
    assert torch.allclose(own, values / 0.5, atol=2 / 255 / 0.5), "its mean is 0 there"


def test_without_a_picture_the_pixels_are_random_and_the_run_says_so(tttdebug, tmp_path):
    folder = vit_folder(tmp_path / "vit")
    code, out, _ = tttdebug("run", "--model", folder, "--precision", "bf16", "--seed", "7", "--out", tmp_path / "run")
    assert code == 0
    assert "random pixels 3x32x32, seed 7" in out
    assert "random pixels 3x32x32, seed 7" in (tmp_path / "run" / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda tmp: ["--image", tmp / "absent.png"], "absent.png"),
        (lambda tmp: ["--image", tmp / "vit" / "config.json"], "cannot read that file as a picture"),
        (lambda tmp: ["--prompt", "a cat"], "reads images, not text; give --image FILE"),
    ],
)
def test_what_a_model_of_images_cannot_read_is_refused(tttdebug, tmp_path, arguments, said):
    folder = vit_folder(tmp_path / "vit")
    code, _, err = tttdebug("run", "--model", folder, *arguments(tmp_path), "--out", tmp_path / "run")
    assert code == 2
    assert said in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda tmp: ["run", "--layers", "1", "--image", picture(tmp / "cat.png")], "reads text, not images"),
        (lambda tmp: ["run", "--layers", "1", "--token-ids", "5 x"], "--token-ids 5 x: give whole numbers"),
        (lambda tmp: ["run", "--layers", "1", "--token-ids", "5 99999"], "outside the vocabulary"),
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
        (lambda tmp: ["run", "--tensor-budget", "-1"], "tensor-budget"),
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
