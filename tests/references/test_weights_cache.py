# SPDX-License-Identifier: Apache-2.0
"""The cache: an entry is there whole or not at all, damage is found, and processes do not get in each other's way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loguru import logger

from tttdebug.errors import WeightsError
from tttdebug.references.cache import cache_folder, cached_entry, damage


def fill(folder: Path) -> None:
    """An entry of two files."""
    (folder / "weights").write_bytes(b"w" * 1000)
    (folder / "config").write_text("{}")


def do_not_fill(folder: Path) -> None:
    raise AssertionError("the entry was whole, and yet made anew")


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    number = logger.add(lambda message: said.append(str(message)), level="WARNING")
    yield said
    logger.remove(number)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TTTDEBUG_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("TTTDEBUG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tttdebug"


def test_an_entry_is_filled_once(cache: Path) -> None:
    entry = cached_entry("model", fill)
    assert entry == cache / "model"
    assert (entry / "weights").read_bytes() == b"w" * 1000
    assert damage(entry) is None
    assert damage(entry, every_byte=True) is None
    assert cached_entry("model", do_not_fill) == entry


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda entry: os.truncate(entry / "weights", 999), "weights has 999 bytes instead of 1,000"),
        (lambda entry: (entry / "config").unlink(), "config is missing"),
        (lambda entry: (entry / "weights").write_bytes(b"v" * 1000), "weights is not what was written"),
        (lambda entry: (entry / "entry.json").unlink(), "entry.json is missing"),
        (lambda entry: (entry / "entry.json").write_text("{"), "entry.json cannot be read"),
        (lambda entry: (entry / "entry.json").write_text('{"files": {"weights": 3}}'), "entry.json cannot be read"),
    ],
    ids=["truncated", "missing", "rewritten", "no record", "half a record", "wrong record"],
)
def test_a_damaged_entry_is_made_anew_and_said(
    cache: Path, warnings: list[str], harm: Callable[[Path], None], found: str
) -> None:
    entry = cached_entry("model", fill)
    harm(entry)
    assert damage(entry) == found
    assert cached_entry("model", fill) == entry
    assert damage(entry, every_byte=True) is None
    assert found in "".join(warnings)


def test_a_file_in_place_of_an_entry_is_replaced(cache: Path) -> None:
    cache.mkdir()
    (cache / "model").write_text("not a folder")
    assert damage(cached_entry("model", fill)) is None


def test_a_bit_that_flips_unseen_is_found_when_every_byte_is_read(cache: Path) -> None:
    entry = cached_entry("model", fill)
    before = (entry / "weights").stat()
    (entry / "weights").write_bytes(b"v" + b"w" * 999)
    os.utime(entry / "weights", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert damage(entry) is None
    assert damage(entry, every_byte=True) == "weights is not what was written"


def test_a_copied_cache_is_good(cache: Path) -> None:
    entry = cached_entry("model", fill)
    os.utime(entry / "weights", ns=(1, 1))
    cached_entry("model", do_not_fill)


def test_nothing_is_left_of_a_failed_filling(cache: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise WeightsError("the download broke off")

    with pytest.raises(WeightsError, match="broke off"):
        cached_entry("model", fail)
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    cached_entry("model", fill)


def test_a_failed_repair_keeps_nothing_half_written(cache: Path) -> None:
    os.truncate(cached_entry("model", fill) / "weights", 10)
    with pytest.raises(AssertionError):
        cached_entry("model", do_not_fill)
    assert damage(cached_entry("model", fill)) is None


def test_everybody_who_may_read_the_folder_may_read_the_files(cache: Path) -> None:
    def fill_in_private(folder: Path) -> None:
        fill(folder)
        (folder / "weights").chmod(0o600)

    umask = os.umask(0o022)
    try:
        entry = cached_entry("model", fill_in_private)
    finally:
        os.umask(umask)
    assert (entry / "weights").stat().st_mode & 0o777 == 0o644


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TTTDEBUG_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(
        WeightsError, match=r"cannot write the cache .*file/below \(Not a directory\): set TTTDEBUG_CACHE"
    ):
        cached_entry("model", fill)


def test_a_full_cache_need_not_be_writable(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = cached_entry("model", fill)
    (cache / ".model.lock").unlink()
    cached_entry("model", do_not_fill)
    assert not (cache / ".model.lock").exists()
    assert entry.exists()


def fill_slowly(folder: Path) -> None:
    with (folder.parent / "fillings").open("a") as log:
        log.write("x")
    fill(folder)
    time.sleep(0.3)


def ask_for_it(queue: multiprocessing.Queue) -> None:
    entry = cached_entry("model", fill_slowly)
    queue.put(
        (damage(entry, every_byte=True), json.loads((entry / "entry.json").read_text())["files"]["weights"]["size"])
    )


def test_processes_that_ask_at_once_share_one_filling(cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=ask_for_it, args=(queue,)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=30) for _ in processes] == [(None, 1000)] * 4
    for process in processes:
        process.join()
    assert (cache / "fillings").read_text() == "x"


def fill_and_be_killed(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w" * 10)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_no_entry_and_no_lock(cache: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=cached_entry, args=("model", fill_and_be_killed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (cache / "model").exists()
    assert damage(cached_entry("model", fill), every_byte=True) is None
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["model"]
