# SPDX-License-Identifier: Apache-2.0
"""The golden cache under `track`: the same numbers bit for bit, no run of the reference, nothing taken for another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers
from loguru import logger
from tiny_llamas import tiny_llama

import tttdebug as td
from families.random_models import random_model
from tttdebug.errors import GoldenError
from tttdebug.faults.small_models import small_model
from tttdebug.references.golden_cache import GoldenCache, parse_size
from tttdebug.testing.default_thresholds import default_thresholds
from tttdebug.testing.gating import gate_run
from tttdebug.tracking.run import CALLS, PROFILES, RECORDS, TOKENS

PROMPTS = [list(range(3, 40)), list(range(50, 90))]
STEPS = 2
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _default_limit(monkeypatch):
    monkeypatch.delenv("TTTDEBUG_CACHE_LIMIT", raising=False)


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7))


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    number = logger.add(lambda message: said.append(str(message)), level="WARNING")
    yield said
    logger.remove(number)


def tracked(reference, prompts=PROMPTS, steps=STEPS, precision="accuracy", **options):
    port = td.build_model(reference, td.open_device("emulated"), precision)
    return td.track(port, reference, prompts, decode_steps=steps, **options)


def used(run):
    return list(run.manifest.from_goldens)


def numbers(run):
    """All that a run measured, but for the seconds."""
    records = [{**record.to_json(), "seconds": 0} for record in run.records]
    files = {name: (run.path / name).read_text() for name in (PROFILES, TOKENS, CALLS)}
    tensors = {path.name: path.read_bytes() for path in (run.path / "tensors").iterdir()}
    return str(records), files, tensors, run.manifest.agreement, run.manifest.continuations


@contextmanager
def forwards_of(model: torch.nn.Module) -> Iterator[list[int]]:
    """An entry for each call of the model within the block; its floor, a copy with the same hooks, does not count."""
    calls: list[int] = []

    def count(module, args, output):
        if module is model:
            calls.append(1)

    handle = model.register_forward_hook(count)
    yield calls
    handle.remove()


@contextmanager
def nobody_in_particular(folder: Path) -> Iterator[None]:
    """Somebody who may read in that folder, but not write; root may write everywhere."""
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    if os.geteuid() != 0:
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        yield
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_second_run_gives_the_same_numbers_and_does_not_run_the_reference(reference, tmp_path):
    plain = tracked(reference, save_tensors="all")
    first = tracked(reference, save_tensors="all", golden_cache=tmp_path)
    with forwards_of(reference.model) as calls:
        second = tracked(reference, save_tensors="all", golden_cache=tmp_path)
    assert not calls
    assert (used(first), used(second)) == ([], [0, 1])
    assert numbers(plain) == numbers(first) == numbers(second)
    assert plain.manifest.golden == {}


def small(family):
    """A small random model of a family, and what it is to read."""
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64, "intermediate_size": 96}
    if family == "bert":
        return random_model(transformers.BertConfig(**shape, vocab_size=128), "BertModel", 3), [list(range(5, 40))]
    if family == "vit":
        config = transformers.ViTConfig(**shape, image_size=32, patch_size=8)
        return random_model(config, "ViTForImageClassification", 3), list(torch.randn(2, 3, 32, 32))
    return small_model(family, 3), [list(range(5, 40))]


@pytest.mark.parametrize("family", ["gemma2", "phi3", "gpt2", "mixtral", "bert", "vit"])
def test_every_family_gives_the_same_numbers(family, tmp_path):
    model, prompts = small(family)
    reference = td.load_reference(model)
    steps = 1 if reference.decodes else 0
    runs = [
        tracked(reference, prompts, steps, save_tensors="all", **options)
        for options in ({}, {"golden_cache": tmp_path}, {"golden_cache": tmp_path})
    ]
    assert used(runs[2]) == list(range(len(prompts)))
    assert numbers(runs[0]) == numbers(runs[1]) == numbers(runs[2])


def test_a_port_of_ones_own_whose_logits_are_what_it_returns_gets_the_same(reference, tmp_path):
    class Own:
        def __init__(self) -> None:
            self.inner = td.build_model(reference, td.open_device("emulated"))
            self.inner.allocate_cache(1, 64)
            self.layers = self.inner.layers

        def prefill(self, ids_BS):
            return self.inner.prefill(ids_BS[0], 0)

        def decode(self, ids_B, positions_B):
            return self.inner.decode(ids_B, positions_B)

    pairs = {"L00.mlp": ("layers.0.feed_forward", "model.layers.0.mlp")}
    runs = [
        td.track(Own(), reference, PROMPTS, decode_steps=1, pairs=pairs, golden_cache=cache)
        for cache in (None, tmp_path, tmp_path)
    ]
    assert {record.boundary for record in runs[0].records} == {"L00.mlp", "logits"}
    assert used(runs[2]) == [0, 1]
    assert numbers(runs[0]) == numbers(runs[1]) == numbers(runs[2])


def test_ports_of_other_formats_share_a_golden_and_prompts_are_kept_one_by_one(reference, tmp_path):
    tracked(reference, PROMPTS[:1], golden_cache=tmp_path)
    assert used(tracked(reference, precision="performance", golden_cache=tmp_path)) == [0]
    assert used(tracked(reference, PROMPTS[1:], golden_cache=tmp_path)) == [0]


def test_a_reference_that_was_changed_in_memory_is_run_again(tmp_path):
    reference = td.load_reference(tiny_llama(7))
    tracked(reference, golden_cache=tmp_path)
    reference.model.model.layers[1].mlp.up_proj.weight.data.mul_(1.01)  # no version counter of torch tells
    again = tracked(reference, golden_cache=tmp_path)
    assert used(again) == []
    assert "parameters" in again.manifest.golden["misses"][0]
    reference.model.model.rotary_emb.inv_freq.mul_(0.5)  # not among the saved weights
    assert used(tracked(reference, golden_cache=tmp_path)) == []
    assert len(GoldenCache(tmp_path).kept()) == 3 * len(PROMPTS)


def test_a_damaged_golden_is_said_run_again_and_mended(reference, tmp_path, warnings):
    plain = tracked(reference, PROMPTS[:1], golden_cache=tmp_path)
    (kept,) = GoldenCache(tmp_path).kept()
    path = kept.folder / "0001.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    again = tracked(reference, PROMPTS[:1], golden_cache=tmp_path)
    assert used(again) == []
    assert len(warnings) == 1
    assert f"{path} is damaged: it is not what was written" in warnings[0]
    assert used(tracked(reference, PROMPTS[:1], golden_cache=tmp_path)) == [0]
    assert numbers(again) == numbers(plain)


def test_a_golden_that_was_given_serves(reference, tmp_path):
    tracked(reference, PROMPTS[:1], golden_cache=tmp_path / "cache")
    (kept,) = GoldenCache(tmp_path / "cache").kept()
    kept.folder.rename(tmp_path / "mine")
    run = tracked(reference, goldens=[tmp_path / "mine"])
    assert used(run) == [0]
    assert run.passed
    assert not (tmp_path / "goldens").exists()


@pytest.mark.parametrize("fault", ["stale", "foreign", "damaged"])
def test_a_stale_foreign_or_damaged_golden_that_was_given_fails_run_and_gate(reference, tmp_path, fault, warnings):
    other = tracked(td.load_reference(tiny_llama(8)), golden_cache=tmp_path / "cache") if fault == "stale" else None
    if fault != "stale":
        other = tracked(reference, steps=1 if fault == "foreign" else STEPS, golden_cache=tmp_path / "cache")
    folder = tmp_path / "cache" / other.manifest.golden["keys"][0]
    if fault == "damaged":
        os.truncate(folder / "0000.safetensors", 1000)
    run = tracked(reference, goldens=[folder], out=tmp_path / "run")
    assert used(run) == []
    assert not run.failed
    assert not run.passed
    wanted = {"stale": "checkpoint", "foreign": "decode_steps (1 there, 2 now)", "damaged": "1,000 bytes instead of"}
    (reason,) = td.Run.load(tmp_path / "run").manifest.refused_goldens
    assert wanted[fault] in reason
    assert reason in warnings[0]
    result = gate_run(tmp_path / "run", default_thresholds())
    assert not result.passed
    assert result.objections == (f"a golden that was given is not that of this run: {reason}",)


def test_a_cache_that_cannot_be_written_is_said_once_and_the_run_goes_on(reference, tmp_path, warnings):
    (tmp_path / "file").write_text("in the way")
    run = tracked(reference, golden_cache=tmp_path / "file" / "cache")
    assert run.passed
    assert len(warnings) == 1
    assert f"cannot write {tmp_path / 'file' / 'cache'} (Not a directory)" in warnings[0]
    assert "--no-golden-cache" in warnings[0]


def test_a_cache_that_may_only_be_read_is_read(reference, tmp_path, warnings):
    cache = tmp_path / "cache"
    tracked(reference, PROMPTS[:1], golden_cache=cache)
    port = td.build_model(reference, td.open_device("emulated"))
    with nobody_in_particular(tmp_path):
        run = td.track(port, reference, PROMPTS, decode_steps=STEPS, golden_cache=cache)
    assert used(run) == [0]
    assert run.passed
    assert len(warnings) == 1
    assert f"cannot write {cache} (Permission denied)" in warnings[0]


def test_a_golden_beyond_the_limit_is_not_kept(reference, tmp_path, warnings):
    run = tracked(reference, PROMPTS[:1], golden_cache=GoldenCache(tmp_path, limit=parse_size("20K")))
    assert run.passed
    assert "more than the limit of 20,480 bytes" in warnings[0]
    assert GoldenCache(tmp_path).kept() == []
    assert not list(tmp_path.glob(".writing-*"))


def test_a_limit_of_nothing_turns_the_cache_off(reference, tmp_path):
    assert tracked(reference, golden_cache=GoldenCache(tmp_path / "cache", limit=0)).manifest.golden == {}
    assert not (tmp_path / "cache").exists()


def test_a_run_that_breaks_off_leaves_no_golden(reference, tmp_path):
    port = td.build_model(reference, td.open_device("emulated"))

    def fail(x):
        raise ZeroDivisionError("in the port")

    port.layers[1].feed_forward.forward = fail
    with pytest.raises(ZeroDivisionError):
        td.track(port, reference, PROMPTS, decode_steps=1, golden_cache=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_golden_of_other_tokens_under_the_right_key_is_an_error(reference, tmp_path):
    """Nobody gets there but by changing the seals too, and even then no other tokens are compared."""
    from tttdebug.references.golden_entry import Golden
    from tttdebug.tracking.goldens import Goldens, _Prompt

    run = tracked(reference, PROMPTS[:1], golden_cache=tmp_path)
    golden = Golden.open(tmp_path / run.manifest.golden["keys"][0])
    goldens = Goldens(3, None, [_Prompt(golden.head.key, golden)])
    with pytest.raises(GoldenError, match="read other tokens in call 0"):
        goldens.forward(0, [1, 2, 3], lambda: pytest.fail("the reference ran"))


def another(cache: Path, *arguments: str) -> subprocess.Popen[str]:
    script = HERE / "golden_keeping.py"
    return subprocess.Popen(
        [sys.executable, script, cache, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_that_keep_the_same_golden_at_once_leave_one(tmp_path):
    both = [another(tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    kept = list(GoldenCache(tmp_path).verified())
    assert [each.fault for each in kept] == ["", ""]
    assert not list(tmp_path.glob(".writing-*"))


def test_a_process_killed_while_it_writes_leaves_a_cache_that_serves(reference, tmp_path):
    process = another(tmp_path, "--slowly")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob(".writing-*/0001.safetensors")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert GoldenCache(tmp_path).kept() == []
    assert list(tmp_path.glob(".writing-*"))
    run = tracked(reference, golden_cache=tmp_path)
    assert run.passed
    assert used(tracked(reference, golden_cache=tmp_path)) == [0, 1]
    assert not list(tmp_path.glob(".writing-*")), "what the killed process left is swept away"


def test_records_are_written_while_goldens_are_read(reference, tmp_path):
    tracked(reference, golden_cache=tmp_path / "cache")
    run = tracked(reference, golden_cache=tmp_path / "cache", out=tmp_path / "run")
    loaded = td.Run.load(tmp_path / "run")
    assert loaded.manifest.golden == run.manifest.golden
    assert (tmp_path / "run" / RECORDS).read_text().count("\n") == len(run.records)
