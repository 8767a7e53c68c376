# SPDX-License-Identifier: Apache-2.0
"""From what a user types to the reference: folders, modules, the hub's cache, and every way to get it wrong."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from tiny_llamas import logits, tiny_llama, write_gguf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tttdebug.errors import SpecError, WeightsError
from tttdebug.references import load_reference


@pytest.fixture
def model() -> LlamaForCausalLM:
    return tiny_llama()


@pytest.fixture
def folder(tmp_path: Path, model: LlamaForCausalLM) -> Path:
    """What save_pretrained leaves of a model and its tokenizer."""
    words = {f"w{number}": number for number in range(96)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "my-model")
    model.save_pretrained(tmp_path / "my-model")
    return tmp_path / "my-model"


def refusal(model: object, error: type[Exception] = WeightsError, **options: object) -> str:
    """The one line with which a wish is refused."""
    with pytest.raises(error) as caught:
        load_reference(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_loads_as_the_model_that_was_saved(folder: Path, model: LlamaForCausalLM) -> None:
    for reference in (load_reference(folder), load_reference(str(folder)), load_reference("llama", weights=folder)):
        assert torch.equal(logits(reference.model), logits(model))
        assert reference.tokenizer is not None
        assert reference.tokenizer.encode("w3 w95") == [3, 95]
        assert reference.context_length == 128
        assert not reference.model.training
        assert not any(parameter.requires_grad for parameter in reference.model.parameters())
        assert reference.weights_digest == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        assert str(folder) in reference.source
    assert load_reference(folder).name == "my-model"
    assert load_reference("llama", weights=folder).name == "llama"


def test_a_folder_in_pieces_has_the_digest_that_sha256sum_gives(tmp_path: Path, model: LlamaForCausalLM) -> None:
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    pieces = sorted(tmp_path.glob("*.safetensors"))
    assert len(pieces) > 1
    listing = subprocess.run(
        ["sha256sum", *(piece.name for piece in pieces)], cwd=tmp_path, capture_output=True, check=True
    )
    reference = load_reference(tmp_path)
    assert torch.equal(logits(reference.model), logits(model))
    assert reference.weights_digest == hashlib.sha256(listing.stdout).hexdigest()
    assert reference.tokenizer is None
    pieces[0].unlink()
    assert pieces[0].name in refusal(tmp_path)


def test_a_bfloat16_folder_is_computed_in_fp32(tmp_path: Path, model: LlamaForCausalLM) -> None:
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    reference = load_reference(tmp_path)
    assert {parameter.dtype for parameter in reference.model.parameters()} == {torch.float32}
    assert reference.model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(reference.model.lm_head.weight, model.lm_head.weight.float())
    coarse = load_reference(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in coarse.model.parameters()} == {torch.bfloat16}
    assert coarse.model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_only_the_first_layers_are_kept(
    folder: Path, model: LlamaForCausalLM, capfd: pytest.CaptureFixture[str]
) -> None:
    reference = load_reference(folder, layers=1)
    model.model.layers = model.model.layers[:1]
    assert reference.config.num_hidden_layers == len(reference.model.model.layers) == 1
    assert torch.equal(logits(reference.model), logits(model))
    assert "UNEXPECTED" not in "".join(capfd.readouterr())
    assert "layers is 3, but the model has 2" in refusal(folder, SpecError, layers=3)


def test_a_module_is_shared_and_left_as_it_is(model: LlamaForCausalLM) -> None:
    model.train()
    expected = logits(model)
    reference = load_reference(model)
    assert torch.equal(logits(reference.model), expected)
    assert reference.model.lm_head.weight.data_ptr() == model.lm_head.weight.data_ptr()
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not reference.model.training
    assert not any(parameter.requires_grad for parameter in reference.model.parameters())
    assert reference.tokenizer is None
    load_reference(model, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_modules_tied_weights_stay_tied() -> None:
    reference = load_reference(tiny_llama(tie_word_embeddings=True))
    assert reference.model.lm_head.weight is reference.model.model.embed_tokens.weight


def test_a_modules_digest_tells_weights_apart(model: LlamaForCausalLM) -> None:
    before = load_reference(model).weights_digest
    assert load_reference(tiny_llama()).weights_digest == before
    with torch.no_grad():
        model.lm_head.weight[3, 5] += 1e-4
    assert load_reference(model).weights_digest != before


def test_what_is_asked_of_a_module_in_vain(model: LlamaForCausalLM, folder: Path) -> None:
    assert "Linear" in refusal(torch.nn.Linear(2, 2))
    assert "weights" in refusal(model, weights=folder)
    assert "layers" in refusal(model, SpecError, layers=1)


def test_unknown_models_are_told_what_is_known(tmp_path: Path) -> None:
    assert all(known in refusal("lama") for known in ("'lama'", "llama", "smollm2", "hub id", "GGUF"))
    assert str(tmp_path / "none") in refusal(tmp_path / "none")
    assert str(tmp_path / "none") in refusal("llama", weights=tmp_path / "none")
    assert "none.gguf" in refusal("none.gguf")


def test_a_folder_that_is_none_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "config.json" in refusal(tmp_path / "empty")
    gguf = write_gguf(tmp_path / "empty" / "tiny.gguf", tiny_llama())
    assert f"give {gguf}" in refusal(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(folder)


def test_damaged_folders_are_refused(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    for length in (0, 7, 100, len(weights) // 2, len(weights) - 1):
        (folder / "model.safetensors").write_bytes(weights[:length])
        assert str(folder) in refusal(folder)
    (folder / "model.safetensors").write_bytes(weights)
    config = json.loads((folder / "config.json").read_text())
    for wrong in ("{", json.dumps({"model_type": "no-such-model"}), json.dumps({**config, "hidden_size": "many"})):
        (folder / "config.json").write_text(wrong)
        assert str(folder) in refusal(folder)


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert "lacks 9 of the model's weights, model.layers.2." in refusal(folder)
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    assert "has not the shape [100, 64]" in refusal(folder)
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForMindReading"]}))
    assert "LlamaForMindReading" in refusal(folder)


def test_hf_model_is_what_llama_stands_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODEL", str(folder))
    reference = load_reference("llama")
    assert reference.name == "llama"
    assert str(folder) in reference.source
    monkeypatch.setenv("HF_MODEL", "nonsense")
    assert "HF_MODEL is set to nonsense" in refusal("llama")


@pytest.fixture
def hub(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's own cache with one model in it, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    entry = tmp_path / "hub" / "models--somebody--tiny"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("0123456789abcdef")
    (entry / "snapshots").mkdir()
    folder.rename(entry / "snapshots" / "0123456789abcdef")
    return entry / "snapshots" / "0123456789abcdef"


def test_a_model_in_the_hubs_cache_needs_no_network(
    hub: Path, model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = load_reference("somebody/tiny")
    assert torch.equal(logits(reference.model), logits(model))
    assert reference.name == "somebody/tiny"
    assert reference.source == "somebody/tiny from the Hugging Face hub, revision 0123456789ab"
    monkeypatch.setenv("HF_MODEL", "somebody/tiny")
    assert load_reference("llama").source == reference.source


def test_a_model_that_the_hubs_cache_lacks_is_refused_offline(hub: Path) -> None:
    assert "nobody/nothing" in (said := refusal("nobody/nothing"))
    assert "HF_HUB_OFFLINE" in said
    (hub / "model.safetensors").unlink()
    assert "not whole" in refusal("somebody/tiny")


def test_progress_is_told(folder: Path) -> None:
    told: list[tuple[str, float | None]] = []
    load_reference(folder, progress=lambda message, fraction: told.append((message, fraction)))
    assert told[0] == ("loading my-model", None)
    assert told[-1] == ("loaded my-model", 1.0)
    assert all(fraction is None or 0 <= fraction <= 1 for _, fraction in told)


def test_the_room_is_imported_without_torch() -> None:
    check = "import sys, tttdebug.references; assert not {'torch', 'transformers', 'numpy', 'gguf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, env=os.environ)
