# SPDX-License-Identifier: Apache-2.0
"""Goldens on disk: what a key tells apart, which damage is found, what goes first when there is no more room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.errors import GoldenError
from tttdebug.references.golden_cache import GoldenCache, golden_cache_at, parse_size
from tttdebug.references.golden_entry import CALLS, HEAD, Golden, GoldenCall
from tttdebug.references.golden_key import SCHEMA, GoldenKey, Tapped, golden_keys, host_class

TAPPED = Tapped([("L00.mlp", "model.layers.0.mlp", None)], [("L00.k_cache", 0, "keys")])
IDS = torch.arange(9)


def key_of(model=None, ids=IDS, steps=1, tapped=TAPPED) -> GoldenKey:
    (key,) = golden_keys(td.load_reference(model or tiny_llama()), [ids], steps, tapped)
    return key


def keep(cache: GoldenCache, name: str, values: int = 100) -> Path:
    """A golden of two calls, under a key of that name."""
    pending = cache.begin(GoldenKey({"prompt": name}))
    for number in range(2):
        output_1TC = torch.full((1, values, 2), float(number))
        pending.writer.append(GoldenCall((number,), {"embed": output_1TC, "L00.mlp": output_1TC * 2}, output_1TC[0]))
    pending.writer.close()
    cache.publish(pending)
    return cache.folder / pending.key.digest


@pytest.fixture
def cache(tmp_path: Path) -> GoldenCache:
    return GoldenCache(tmp_path / "goldens", limit=2**30)


def test_equal_references_have_equal_keys():
    assert key_of() == key_of()


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("checkpoint", lambda: key_of(tiny_llama(seed=1))),
        ("config", lambda: key_of(tiny_llama(rms_norm_eps=1e-6))),
        ("prompt", lambda: key_of(ids=torch.arange(1, 10))),
        ("decode_steps", lambda: key_of(steps=2)),
        ("boundaries", lambda: key_of(tapped=Tapped([("L00.mlp", "model.layers.0.mlp", 1)], TAPPED.caches))),
        ("boundaries", lambda: key_of(tapped=Tapped(TAPPED.modules, ()))),
    ],
)
def test_a_key_tells_apart(part, other):
    assert part in key_of().differing(other())
    assert key_of().digest != other().digest


def test_a_key_tells_dtypes_apart():
    model = tiny_llama()
    keys = [
        golden_keys(td.load_reference(model, dtype=dtype), [IDS], 1, TAPPED)[0]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert "dtype" in keys[0].differing(keys[1])


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_key_tells_versions_apart(package, monkeypatch, tmp_path):
    now = key_of()
    described = tmp_path / f"{package}-0.1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\n")
    installed = version(package)
    monkeypatch.syspath_prepend(tmp_path)
    then = key_of()
    assert then.differing(now) == (package,)
    assert then.against(now) == f"{package} (0.1 there, {installed} now)"


def test_a_key_tells_machines_apart():
    say = "import torch; from tttdebug.references.golden_key import host_class; print(host_class(torch.device('cpu')))"
    said = [
        subprocess.run(
            [sys.executable, "-c", say], env=os.environ | extra, check=True, capture_output=True, text=True
        ).stdout
        for extra in ({}, {"ATEN_CPU_CAPABILITY": "default"})
    ]
    assert said[0].strip() == host_class(torch.device("cpu"))
    assert said[1].strip().endswith("DEFAULT")


def test_a_key_tells_settings_and_schemas_apart():
    now = key_of()
    assert now.parts["schema"] == str(SCHEMA)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert key_of() == now
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    try:
        assert key_of().differing(now) == ("settings",)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_tensors_come_back_bit_for_bit_and_lie_as_they_lay(cache):
    whole = torch.randn(1, 6, 8)
    outputs = {
        "whole": whole,
        "the same": whole,
        "half": whole[..., :4],
        "turned": torch.randn(1, 8, 6).transpose(1, 2),
        "repeated": torch.randn(1, 6, 1).expand(1, 6, 3),
        "bfloat16": torch.randn(1, 6, 3).bfloat16(),
        "not numbers": torch.tensor([[float("nan"), float("inf"), -0.0]]),
    }
    pending = cache.begin(GoldenKey({"prompt": "5"}))
    pending.writer.append(GoldenCall((5,), outputs, whole[0], {"half": ("output 0",)}))
    pending.writer.close()
    cache.publish(pending)
    found = cache.find(GoldenKey({"prompt": "5"}))
    assert found is not None
    call = found.call(0)
    assert (call.token_ids, call.adapters, list(call.activations)) == ((5,), {"half": ("output 0",)}, list(outputs))
    for name, output in outputs.items():
        read = call.activations[name]
        assert read.dtype == output.dtype
        assert torch.equal(read.contiguous().view(torch.uint8), output.contiguous().view(torch.uint8))
        assert read.stride() == output.stride() or name == "repeated"
    assert torch.equal(call.logits_TV, whole[0])
    (file,) = found.head.folder.glob("*.safetensors")
    assert file.stat().st_size < 4 * (48 + 24 + 48 + 18) + 2 * 18 + 12 + 1000, "what is the same is stored once"


@settings(max_examples=60)
@given(data=st.data())
def test_a_byte_that_changed_or_is_missing_anywhere_is_found(tmp_path_factory, data):
    cache = GoldenCache(tmp_path_factory.mktemp("cache"), limit=2**30)
    folder = keep(cache, "5", values=3)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
    else:
        os.truncate(path, place)
    with pytest.raises(GoldenError, match=str(folder)):
        Golden.open(folder)
    assert [bool(each.fault) for each in cache.verified()] == [True]
    assert cache.find(GoldenKey({"prompt": "5"})) is None


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda folder: (folder / HEAD).unlink(), f"it has no {HEAD}"),
        (lambda folder: (folder / CALLS).unlink(), f"{CALLS} cannot be read"),
        (lambda folder: (folder / "0001.safetensors").unlink(), "0001.safetensors cannot be read"),
        (lambda folder: folder.rename(folder.with_name("0" * 32)), "is not what its name says"),
        (lambda folder: (folder / HEAD).write_text("[]"), "is damaged"),
    ],
    ids=["no head", "no calls", "no tensors", "renamed", "another head"],
)
def test_what_else_can_be_wrong_with_a_golden_is_named(cache, harm, found):
    harm(keep(cache, "5"))
    (kept,) = cache.verified()
    assert found in kept.fault
    assert [each.folder for each in cache.prune(cache.limit, damaged=True)] == [kept.folder]
    assert cache.kept() == []


def test_a_golden_of_a_newer_schema_is_refused(cache):
    folder = keep(cache, "5")
    content = json.loads((folder / HEAD).read_text())
    (folder / HEAD).write_text(json.dumps(content | {"schema": 99}))
    with pytest.raises(GoldenError, match="has schema 99, this tttdebug reads up to 1; upgrade it"):
        Golden.open(folder)


def test_the_least_recently_used_go_first(cache):
    folders = {name: keep(cache, name) for name in "abc"}
    for age, name in enumerate("cab"):
        os.utime(folders[name], (1e9 + age, 1e9 + age))
    assert [each.folder for each in cache.kept()] == [folders[name] for name in "cab"]
    assert cache.find(GoldenKey({"prompt": "c"})) is not None  # which is a use
    size = cache.kept()[0].bytes
    newest = keep(GoldenCache(cache.folder, limit=2 * size), "d")
    assert {each.folder for each in cache.kept()} == {folders["c"], newest}
    assert [each.folder for each in cache.prune(size)] == [folders["c"]]


def test_a_golden_that_is_open_outlives_its_removal(cache):
    keep(cache, "5")
    golden = cache.find(GoldenKey({"prompt": "5"}))
    cache.prune(0)
    assert cache.kept() == []
    assert golden.call(1).activations["L00.mlp"].unique().tolist() == [2.0]


def test_the_nearest_golden_says_how_it_differs(cache):
    keys = [GoldenKey({"prompt": "5 6", "torch": torch_, "host": host}) for torch_, host in (("1", "x"), ("2", "y"))]
    for key in keys:
        pending = cache.begin(key)
        pending.writer.close()
        cache.publish(pending)
    wanted = GoldenKey({"prompt": "5 6", "torch": "3", "host": "y"})
    assert cache.nearest_difference(wanted) == "torch (2 there, 3 now)"
    assert cache.nearest_difference(GoldenKey({"prompt": "7"})) == ""


def test_what_is_being_written_is_left_alone_and_no_golden(cache):
    pending = cache.begin(GoldenKey({"prompt": "5"}))
    keep(cache, "6")
    cache.prune(0)
    assert pending.writer.folder.is_dir()
    assert cache.kept() == []
    cache.discard(pending)
    assert not pending.writer.folder.exists()


def test_whoever_may_read_the_folder_may_read_the_files(cache):
    folder = keep(cache, "5")
    readable = folder.stat().st_mode & 0o444
    assert all(path.stat().st_mode & 0o444 == readable for path in folder.iterdir())


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1048576", 2**20), ("500M", 500 * 2**20), ("10 GiB", 10 * 2**30), ("1.5k", 1536)]
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "ten", "-1", "5X", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(GoldenError, match="is no size"):
        parse_size(text)


def test_the_limit_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("TTTDEBUG_CACHE_LIMIT", "3M")
    assert GoldenCache().limit == 3 * 2**20
    monkeypatch.setenv("TTTDEBUG_CACHE_LIMIT", "lots")
    with pytest.raises(GoldenError, match="TTTDEBUG_CACHE_LIMIT: 'lots' is no size"):
        GoldenCache()


def test_a_file_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GoldenError, match="is no folder"):
        golden_cache_at(tmp_path / "file")
