# SPDX-License-Identifier: Apache-2.0
"""Folders of files that were costly to make, kept on disk: filled whole or not at all, and made anew when damaged."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from tttdebug.errors import WeightsError
from tttdebug.references.digest import digest_of_file
from tttdebug.references.reference import Progress, say_nothing

RECORD = "entry.json"
"""Beside the files of an entry: the size, time and SHA-256 of each as they were written."""


def cache_folder() -> Path:
    """Where downloaded and converted weights are kept: `TTTDEBUG_CACHE`, else this platform's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("TTTDEBUG_CACHE")
    return Path(chosen).expanduser().resolve() if chosen else user_cache_path("tttdebug")


def cached_entry(name: str, fill: Callable[[Path], None], progress: Progress = say_nothing) -> Path:
    """The cache's folder `name`; where it is absent or damaged, `fill` first writes its files into an empty folder.

    The folder appears complete or not at all, whatever happens to this process; when several processes ask for it at
    once, one fills it and the others wait. Raises WeightsError where the cache cannot be written.
    """
    entry = cache_folder() / name
    if entry.exists() and damage(entry) is None:
        return entry
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with _only_one_at_a_time(entry, progress):
            if entry.exists():
                fault = damage(entry)
                if fault is None:  # another process filled it while this one waited
                    return entry
                logger.warning("{} is damaged ({}) and is made anew", entry, fault)
            _fill(entry, fill)
    except OSError as error:
        raise WeightsError(
            f"cannot write the cache {entry.parent} ({error.strerror or error}): "
            "set TTTDEBUG_CACHE to a folder that can be written and has 1 GB free"
        ) from error
    return entry


def damage(entry: Path, *, every_byte: bool = False) -> str | None:
    """What is wrong with an entry, or None.

    Sizes and times are compared, which costs nothing; a file whose time has changed is read and its digest compared,
    as is every file where `every_byte` is asked for.
    """
    try:
        files: dict[str, dict[str, object]] = json.loads((entry / RECORD).read_text("utf-8"))["files"]
        for name, written in files.items():
            now = (entry / name).stat()
            if now.st_size != written["size"]:
                return f"{name} has {now.st_size:,} bytes instead of {written['size']:,}"
            touched = now.st_mtime_ns != written["mtime_ns"]
            if (touched or every_byte) and digest_of_file(entry / name) != written["sha256"]:
                return f"{name} is not what was written"
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{RECORD} cannot be read"
    return None


@contextmanager
def _only_one_at_a_time(entry: Path, progress: Progress) -> Iterator[None]:
    """Hold the entry's lock, which the system lets go of when a process dies."""
    with (entry.parent / f".{entry.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that makes {entry.name}", None)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(entry: Path, fill: Callable[[Path], None]) -> None:
    """Have an entry written into a folder beside it and move that into place. The entry's lock is held."""
    filling = entry.parent / f".{entry.name}.filling"
    _remove(filling)  # of a process that was killed
    filling.mkdir()
    try:
        fill(filling)
        _record(filling)
        _remove(entry)
        filling.rename(entry)
    finally:
        _remove(filling)


def _record(entry: Path) -> None:
    """Note down the files of an entry, once they are safe on disk and readable by whoever may read the folder."""
    readable_by = entry.stat().st_mode & 0o666
    files = {}
    for path in sorted(entry.iterdir()):
        path.chmod(readable_by)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        stat = path.stat()
        files[path.name] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest_of_file(path)}
    (entry / RECORD).write_text(json.dumps({"files": files}, indent=1), "utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
