# SPDX-License-Identifier: Apache-2.0
"""Families come from the package, from entry points and from files; a faulty one is refused whole."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import torch
import transformers
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.errors import FamilyError, SpecError, WeightsError
from tttdebug.families import Rows, all_families, register_file, registry
from tttdebug.families.llama import FAMILY as LLAMA
from tttdebug.job import Job, do


@pytest.fixture(autouse=True)
def _no_files(monkeypatch):
    monkeypatch.setattr(registry, "_from_files", {})


def names():
    return [family.name for family in all_families()]


def test_every_family_of_the_issue_is_there():
    assert set(names()) >= {
        *(
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "phi3",
            "gemma2",
            "gemma3",
            "mixtral",
            "qwen3_moe",
            "qwen2_moe",
            "glm4_moe",
            "phi",
            "gpt_neox",
            "cohere",
            "gpt2",
            "bert",
            "vit",
        )
    }


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        ("import os\n\nFAMILY = undefined\n", 3, "NameError"),
        ("x = 1\nFAMILY = (\n", 2, "SyntaxError"),
        ("from tttdebug.families import Family\nFAMILY = Family(nme='x')\n", 2, "TypeError"),
    ],
)
def test_a_file_with_an_error_is_refused_with_its_line(tmp_path, code, line, said):
    file, before = tmp_path / "mine.py", names()
    file.write_text(code)
    with pytest.raises(FamilyError, match=rf"mine\.py:{line}: {said}"):
        register_file(file)
    assert names() == before


@pytest.mark.parametrize("code", ["", "FAMILY = 3"])
def test_a_file_without_a_family_is_refused(tmp_path, code):
    file = tmp_path / "mine.py"
    file.write_text(code)
    with pytest.raises(FamilyError, match="FAMILY"):
        register_file(file)
    with pytest.raises(FamilyError, match="no such file"):
        register_file(tmp_path / "absent.py")


def test_an_unknown_architecture_names_the_nearest_family_and_what_is_missing():
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 48}
    config = transformers.Cohere2Config(**sizes, vocab_size=61, num_key_value_heads=1, pad_token_id=0)
    with pytest.raises(FamilyError) as caught:
        td.build_model(td.load_reference(transformers.Cohere2ForCausalLM(config)), td.open_device("emulated"))
    message = str(caught.value)
    assert "no family fits the architecture Cohere2ForCausalLM; the nearest is cohere (CohereForCausalLM)" in message
    assert "all of whose modules it has" in message
    assert "docs/adding-a-family.md" in message


def test_an_architecture_that_lacks_modules_is_told_which():
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 48}
    config = transformers.OPTConfig(**sizes, ffn_dim=48, vocab_size=61, word_embed_proj_dim=64)
    with pytest.raises(FamilyError, match=r"of whose \d+ modules it lacks .*layers\.0") as caught:
        td.build_model(td.load_reference(transformers.OPTForCausalLM(config)), td.open_device("emulated"))
    assert "OPTForCausalLM" in str(caught.value)


def test_an_unknown_architecture_with_all_modules_of_a_family_says_so():
    class LlamaForCausalLMX(type(tiny_llama())):
        pass

    model = tiny_llama()
    model.__class__ = LlamaForCausalLMX
    model.config.architectures = ["LlamaForCausalLMX"]
    with pytest.raises(FamilyError, match=r"nearest is llama \(LlamaForCausalLM\), all of whose modules it has"):
        td.build_model(td.load_reference(model), td.open_device("emulated"))


def test_a_parameter_that_the_family_does_not_read_is_refused():
    model = tiny_llama(head_dim=32, attention_bias=True)
    model.config.attention_bias = False
    with pytest.raises(FamilyError, match="8 parameters"):
        td.build_model(td.load_reference(model), td.open_device("emulated"))


def test_a_state_dict_that_lacks_weights_is_refused():
    reference = td.load_reference(tiny_llama(head_dim=32))
    state = {name: weight for name, weight in reference.model.state_dict().items() if "layers.1." not in name}
    with pytest.raises(FamilyError, match=r"lacks 9 of the 21 weights"):
        td.build_model(reference, td.open_device("emulated"), weights=state)


def test_a_table_with_a_gap_is_refused():
    gap = {name: source for name, source in LLAMA.weights.items() if name != "norm.weight"}
    with pytest.raises(FamilyError, match=r"'norm\.weight'"):
        replace(LLAMA, weights=gap).sources(LLAMA.spec(tiny_llama().config))


def test_the_name_of_a_family_without_a_model_asks_for_one(tmp_path):
    with pytest.raises(WeightsError, match="--weights"):
        do(Job(model="qwen3", out=tmp_path / "run"), lambda message, fraction: None)


def test_weights_of_another_family_than_the_named_one_are_refused(tmp_path):
    tiny_llama(head_dim=32).save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    with pytest.raises(FamilyError, match="of family llama"):
        do(Job(model="mistral", weights=tmp_path / "model", out=tmp_path / "run"), lambda message, fraction: None)


def test_a_source_is_a_view_that_can_be_written():
    fused = torch.zeros(6, 2)
    Rows("qkv", 2, 4).view(fused).copy_(torch.ones(2, 2))
    assert fused.sum(1).tolist() == [0, 0, 2, 2, 0, 0]


FALCONISH = """
from dataclasses import replace
from tttdebug.families.llama import FAMILY as LLAMA

FAMILY = replace(LLAMA, name="falconish", architectures=("FalconishForCausalLM",), needs="nothing but courage")
"""
METADATA = "Metadata-Version: 2.1\nName: falconish-for-tttdebug\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ENTRY_POINTS = "[tttdebug.families]\nfalconish = falconish_tables:FAMILY\n"


def installed(folder, code):
    """A package with an entry point, as a wheel, installed by pip into a folder of its own."""
    about = "falconish_for_tttdebug-1.0.dist-info"
    files = {
        "falconish_tables.py": code,
        f"{about}/METADATA": METADATA,
        f"{about}/WHEEL": WHEEL,
        f"{about}/entry_points.txt": ENTRY_POINTS,
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    wheel = folder / "falconish_for_tttdebug-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", folder / "site", wheel], check=True, capture_output=True, text=True)
    return folder / "site"


def tttdebug_models(site):
    path = os.pathsep.join([str(site), *sys.path])
    command = [sys.executable, "-m", "tttdebug.cli", "models"]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )


def test_an_installed_package_brings_a_family(tmp_path):
    listed = tttdebug_models(installed(tmp_path, FALCONISH))
    assert listed.returncode == 0, listed.stderr
    assert "falconish" in listed.stdout
    assert "FalconishForCausalLM" in listed.stdout
    assert "nothing but courage" in listed.stdout
    assert "llama" in listed.stdout
    assert "falconish" not in tttdebug_models(tmp_path).stdout


def test_an_installed_package_with_a_fault_is_named(tmp_path):
    listed = tttdebug_models(installed(tmp_path, "FAMILY = 3"))
    assert listed.returncode == 2
    assert "falconish_tables:FAMILY" in listed.stderr
    assert "give a tttdebug.families.Family" in listed.stderr


def test_heads_that_do_not_divide_are_a_spec_error():
    model = tiny_llama(head_dim=32)
    model.config.num_key_value_heads = 3
    with pytest.raises(SpecError, match="num_kv_heads"):
        td.build_model(td.load_reference(model), td.open_device("emulated"))
