# SPDX-License-Identifier: Apache-2.0
"""A reference run a layer at a time: the same bits as the whole one, never two layers in memory, clear refusals."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.errors import AnalysisError, WeightsError
from tttdebug.faults.small_models import small_model
from tttdebug.references import check_reference, load
from tttdebug.references.stored_weights import StoredWeights, available_memory

PROMPTS = [list(range(5, 40)), list(range(50, 75)), list(range(3, 20))]
FAMILIES = ["llama", "qwen3", "phi3", "gemma2", "cohere", "phi", "gpt2"]


def saved(folder: Path, model: torch.nn.Module) -> Path:
    """A Hugging Face folder of many small files."""
    model.save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / request.param, small_model(request.param, 3, layers=3))


@pytest.fixture
def llama(tmp_path):
    return saved(tmp_path / "llama", tiny_llama(5, num_hidden_layers=3))


def numbers(run):
    """All that a run measured, but for the seconds."""
    records = [{**record.to_json(), "seconds": 0} for record in run.records]
    tensors = {path.name: path.read_bytes() for path in (run.path / "tensors").iterdir()}
    return str(records), tensors, run.tokens, run.manifest.continuations


def layers_in_memory(model) -> int:
    return sum(not next(layer.parameters()).is_meta for layer in model.model.layers)


def test_logits_and_weights_are_those_of_the_whole_model_bit_for_bit(folder):
    whole, streamed = td.load_reference(folder), td.load_reference(folder, stream=True)
    assert whole.weights_digest == streamed.weights_digest
    state = streamed.state_dict()
    assert list(state) == list(whole.state_dict())
    assert all(torch.equal(weight, state[name]) for name, weight in whole.state_dict().items())
    batches = [torch.tensor([prompt]) for prompt in PROMPTS]
    with torch.no_grad():
        assert torch.equal(whole.model(batches[0]).logits, streamed.model(batches[0]).logits)
        together = streamed.stream.together([partial(_logits, streamed.model, batch) for batch in batches])
        alone = [whole.model(batch).logits for batch in batches]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def _logits(model, batch):
    with torch.no_grad():
        return model(batch).logits


def test_a_tracked_run_gives_the_same_numbers_floors_too(folder, tmp_path):
    whole, streamed = td.load_reference(folder), td.load_reference(folder, stream=True)
    runs = []
    for reference, options in ((whole, {}), (streamed, {}), (streamed, {"golden_cache": tmp_path})):
        port = td.build_model(reference, td.open_device("emulated"), "performance")
        runs.append(td.track(port, reference, PROMPTS[:2], decode_steps=2, save_tensors="all", **options))
    assert numbers(runs[0]) == numbers(runs[1]) == numbers(runs[2])
    assert all(record.floor_rel_l2 > 0 for record in runs[1].records if record.boundary.endswith("mlp"))
    assert [run.manifest.model["streamed"] for run in runs] == [False, True, True]


def test_one_layer_is_in_memory_at_a_time_and_is_read_once_for_all_prompts(llama):
    streamed = td.load_reference(llama, stream=True)
    seen, read = [], []
    for layer in streamed.model.model.layers:
        layer.mlp.register_forward_hook(lambda *_: seen.append(layers_in_memory(streamed.model)))
    held = streamed.stream._read
    streamed.stream._read = lambda names: read.append(names[0]) or held(names)
    streamed.stream.together([partial(_logits, streamed.model, torch.tensor([prompt])) for prompt in PROMPTS])
    assert seen == [1] * 3 * len(PROMPTS)
    assert len(read) == 3
    assert layers_in_memory(streamed.model) == 0


def test_a_golden_of_it_serves_the_next_run_without_reading_a_layer(llama, tmp_path, monkeypatch):
    monkeypatch.delenv("TTTDEBUG_CACHE_LIMIT", raising=False)
    reference = td.load_reference(llama, stream=True)
    port = td.build_model(reference, td.open_device("emulated"))
    first = td.track(port, reference, PROMPTS, decode_steps=1, golden_cache=tmp_path / "cache")
    calls = []
    reference.stream.together = lambda work: calls.append(work)
    second = td.track(port, reference, PROMPTS, decode_steps=1, golden_cache=tmp_path / "cache")
    assert not calls
    assert second.manifest.from_goldens == (0, 1, 2)
    assert numbers(first) == numbers(second)


def test_a_call_that_raises_ends_all_and_leaves_no_layer(llama):
    streamed = td.load_reference(llama, stream=True)

    def fail(*_):
        raise ZeroDivisionError("in a layer")

    handle = streamed.model.model.layers[1].mlp.register_forward_hook(fail)
    calls = [partial(_logits, streamed.model, torch.tensor([prompt])) for prompt in PROMPTS]
    with pytest.raises(ZeroDivisionError, match="in a layer"):
        streamed.stream.together(calls)
    with pytest.raises(ZeroDivisionError, match="in a layer"):
        calls[0]()
    assert layers_in_memory(streamed.model) == 0
    handle.remove()
    assert len(streamed.stream.together(calls)) == len(PROMPTS)


def test_it_can_be_checked_and_audited_as_any_other(llama):
    streamed = td.load_reference(llama, stream=True)
    assert check_reference(streamed, PROMPTS[0]) == check_reference(td.load_reference(llama), PROMPTS[0])
    assert td.audit(td.build_model(streamed, td.open_device("emulated")), streamed).passed


def test_what_needs_the_whole_reference_says_so(llama):
    streamed = td.load_reference(llama, stream=True)
    run = td.track(td.build_model(streamed, td.open_device("emulated")), streamed, PROMPTS[:1])
    with pytest.raises(AnalysisError, match="--no-stream-reference"):
        td.explain(run)


def test_layers_and_dtype_are_as_asked_for(llama):
    for options in ({"layers": 2}, {"dtype": torch.bfloat16}):
        whole, streamed = (td.load_reference(llama, stream=stream, **options) for stream in (False, True))
        batch = torch.tensor(PROMPTS[:1])
        assert torch.equal(_logits(whole.model, batch), _logits(streamed.model, batch))


def test_it_is_done_by_itself_where_the_checkpoint_is_larger_than_memory(llama, monkeypatch):
    import tttdebug.references.stored_weights as stored

    said = []
    assert td.load_reference(llama).stream is None
    monkeypatch.setattr(stored, "available_memory", lambda: 1000)
    reference = td.load_reference(llama, progress=lambda message, fraction: said.append(message))
    assert reference.stream is not None
    assert any("runs a layer at a time" in message for message in said)
    assert td.load_reference(llama, stream=False).stream is None


def test_the_memory_that_is_left_is_known_here():
    assert available_memory() > 2**20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda folder: tiny_llama(), "in memory already"),
        (lambda folder: _of_other_names(folder), "does not keep model.layers.1.mlp.up_proj.weight under that name"),
        (lambda folder: _pickled(folder), "is no safetensors file"),
        (lambda folder: _damaged(folder), "cannot be read"),
    ],
    ids=["a module", "other names", "pickled", "damaged"],
)
def test_what_cannot_be_streamed_says_why(tmp_path, given, said):
    model = tiny_llama(5)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(WeightsError, match=said):
        td.load_reference(given(tmp_path / "model"), stream=True)


def _of_other_names(folder: Path) -> Path:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.w3.weight"] = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def _pickled(folder: Path) -> Path:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def _damaged(folder: Path) -> Path:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    return folder


def test_a_gguf_file_cannot_be_streamed(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(WeightsError, match="only folders of safetensors can be streamed"):
        td.load_reference(tmp_path / "model.gguf", stream=True)


def test_sizes_are_those_of_the_dtype_asked_for(llama):
    index = json.loads((llama / "model.safetensors.index.json").read_text())
    assert StoredWeights(llama, torch.float32).bytes == index["metadata"]["total_size"]
    assert StoredWeights(llama, torch.bfloat16).bytes * 2 == index["metadata"]["total_size"]
    assert load.load_reference(llama).model.num_parameters() == StoredWeights(llama, torch.float32).elements
