# SPDX-License-Identifier: Apache-2.0
"""Bundles as a kernel engineer gets them: the test fails by itself, and passes once the fault in it is mended."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from typed_command import FORTY_TOKENS, typed

PORTS = Path(__file__).parents[1] / "ports"


def test_exchanged_weights_fail_by_themselves_and_pass_when_put_back(bundle, run_of, unpacked, tmp_path):
    code, out, _ = bundle(run_of("gate_up_exchanged@L01.mlp"), "L01.mlp")
    assert code == 0
    assert "BUNDLED  L01.mlp in prefill: rel_l2" in out
    alone = unpacked()
    assert not alone.passes()
    assert "rel_l2 0.6" in alone.said
    tensors = alone.tensors
    alone.change_tensors(w1=tensors["w3"], w3=tensors["w1"])
    assert alone.passes()
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {
        *("ISSUE.md", "bundle.json", "tensors.safetensors", "test_L01_mlp_prefill.py")
    }


def test_what_the_failure_does_not_need_is_cut_and_said(bundle, run_of, unpacked):
    bundle(run_of("gate_up_exchanged@L01.mlp"), "L01.mlp")
    alone = unpacked()
    about = json.loads((alone.folder / "bundle.json").read_text())
    assert [step["what"] for step in about["cut"]] == ["tokens 64 → 32", "columns of the last product 96 → 32"]
    assert alone.tensors["x"].shape == (1, 1, 32, 96)
    assert alone.tensors["w2"].shape == (160, 32)
    assert about["seen_of_a_sound_port"]["rel_l2"] < about["limit_rel_l2"] < about["seen"]["rel_l2"]
    issue = (alone.folder / "ISSUE.md").read_text()
    assert f"{about['seen']['rel_l2']:.4g}" in issue
    assert "tokens 64 → 32: rel_l2" in issue


def test_nothing_is_cut_when_that_is_asked_for(bundle, run_of, unpacked):
    bundle(run_of("gate_up_exchanged@L01.mlp"), "L01.mlp", "--no-shrink")
    alone = unpacked()
    assert alone.tensors["x"].shape == (1, 1, 64, 96)
    assert alone.tensors["golden"].shape == (40, 96)
    assert not alone.passes()
    assert "Nothing was cut" in (alone.folder / "ISSUE.md").read_text()


def test_a_decode_step_brings_the_caches_as_they_were(bundle, run_of, unpacked):
    code, _, _ = bundle(run_of("padding_keys_in_decode@L01.self_attn"), "L01.self_attn", "--step", "0")
    assert code == 0
    alone = unpacked()
    assert alone.test.name == "test_L01_self_attn_decode_0.py"
    assert not alone.passes()
    tensors = alone.tensors
    assert bool(tensors["cache_keys"][0, :, :40].float().any(-1).all())
    alone.change_tensors(cur_pos_tensor=tensors["update_idxs_tensor"])  # it saw keys that nothing was written to
    assert alone.passes()


def test_an_op_at_fault_is_bundled_alone_with_torch_as_golden(bundle, run_of, unpacked):
    code, out, _ = bundle(run_of("attention_lofi@L01.self_attn"), "L01.self_attn", "--phase", "prefill")
    assert code == 0
    assert "with its golden in its place the module passes" in out
    alone = unpacked()
    about = json.loads((alone.folder / "bundle.json").read_text())
    assert about["ops"] == ["ttnn.transformer.scaled_dot_product_attention"]
    assert alone.tensors["input_tensor_q"].shape == (1, 1, 32, 32)  # a head and a tile of positions are left
    assert not alone.passes()
    alone.change_text("ttnn.MathFidelity.LoFi", "ttnn.MathFidelity.HiFi4")
    assert alone.passes()


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_port_written_by_hand_is_bundled_without_itself(bundle, tiny_folder, unpacked, tmp_path, monkeypatch, phase):
    monkeypatch.setattr(sys, "path", [*sys.path, str(PORTS)])
    path = tmp_path / "my_port.py"
    path.write_text(
        "from drive_ttt_llama import build as sound, prefill, decode\n"
        "def build(reference_model, device):\n"
        "    port = sound(reference_model, device)\n"
        "    for layer in port.layers:\n"
        "        layer.attention.load_device_weights()\n"
        "    first, last = (layer.attention for layer in port.layers)\n"
        "    last.wo = first.wo\n"
        "    return port\n",
        encoding="utf-8",
    )

    ids = " ".join(map(str, range(3, 40)))
    common = (
        "--reference",
        tiny_folder,
        "--token-ids",
        ids,
        "--decode-steps",
        "1",
        "--quiet",
        "--out",
        tmp_path / "run",
    )
    assert typed("run", "--port", f"{path}:build", *common) == 1
    code, _, err = bundle(tmp_path / "run", "L01.self_attn", "--phase", phase)
    assert code == 0, err
    alone = unpacked()
    assert not alone.passes()
    tensors = alone.tensors
    if phase == "decode":
        assert tensors["keys"].shape == (4, 1, 32, 32)  # of 128 blocks, those of the one user
    meant = load_file(tiny_folder / "model.safetensors")["model.layers.1.self_attn.o_proj.weight"].T
    columns = tensors["wo"].shape[1]
    alone.change_tensors(wo=meant[:, :columns].contiguous().to(torch.bfloat16))
    assert alone.passes()


def test_a_module_that_does_not_fail_alone_is_not_bundled(bundle, run_of, tmp_path):
    code, out, _ = bundle(run_of("gate_up_exchanged@L00.mlp"), "L01.mlp")
    assert code == 1
    assert "NOT BUNDLED  L01.mlp in prefill does not fail alone" in out
    assert not list(tmp_path.iterdir())


def test_a_sound_module_is_bundled_when_asked_for_and_its_test_passes(bundle, run_of, unpacked):
    code, out, _ = bundle(run_of(None), "L00.input_norm", "--anyway")
    assert code == 0
    assert "within the limit" in out
    alone = unpacked()
    assert alone.passes()
    assert "**the test passes**" in (alone.folder / "ISSUE.md").read_text()


def test_without_a_boundary_it_is_the_first_that_diverges(bundle, run_of):
    code, out, _ = bundle(run_of("gate_up_exchanged@L01.mlp"))
    assert code == 0
    assert "L01.mlp in prefill" in out


def test_the_cause_that_was_found_stands_in_the_issue(bundle, tiny_folder, unpacked, tmp_path):

    fault = ("--inject", "gate_up_exchanged@L01.mlp", "--explain")
    common = (
        "--model",
        tiny_folder,
        "--token-ids",
        FORTY_TOKENS,
        "--decode-steps",
        "0",
        "--quiet",
        "--out",
        tmp_path / "run",
    )
    typed("run", *common, *fault)
    bundle(tmp_path / "run")
    issue = (unpacked().folder / "ISSUE.md").read_text()
    assert "what mends it: exchange w1 and w3" in issue
    assert str(tmp_path) not in issue


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("L09.mlp",), "the run has no module at 'L09.mlp'"),
        (("L01.k_cache",), "L01.k_cache is what L01.self_attn writes into its cache; bundle L01.self_attn"),
        (("L01.mlp", "--step", "7"), "L01.mlp has no call with"),
        (("L01.mlp", "--phase", "training"), "--phase training: give prefill or decode"),
    ],
)
def test_what_cannot_be_bundled_is_one_clear_error(bundle, run_of, tmp_path, arguments, says):
    code, _, err = bundle(run_of("gate_up_exchanged@L01.mlp"), *arguments)
    assert code == 2
    assert says in err
    assert not list(tmp_path.iterdir())


def test_only_a_zip_where_that_is_asked_for_and_never_over_another(bundle, run_of, tmp_path):
    output = tmp_path / "for_you.zip"
    assert bundle(run_of("gate_up_exchanged@L01.mlp"), "L01.mlp", "--output", output)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["for_you.zip"]
    before = output.read_bytes()
    code, _, err = bundle(run_of("gate_up_exchanged@L01.mlp"), "L01.mlp", "--output", output)
    assert code == 2
    assert "exists already" in err
    assert output.read_bytes() == before
