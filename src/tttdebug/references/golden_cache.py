# SPDX-License-Identifier: Apache-2.0
"""The golden cache: goldens in folders by their key, none half written, within a limit of bytes, for many processes."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from loguru import logger

from tttdebug.errors import GoldenError
from tttdebug.references.cache import cache_folder
from tttdebug.references.golden_entry import Golden, GoldenHead, GoldenWriter, refuse_damage
from tttdebug.references.golden_key import GoldenKey

FOLDER = "goldens"
LIMIT_VARIABLE, DEFAULT_LIMIT = "TTTDEBUG_CACHE_LIMIT", 10 * 2**30
_LOCK, _WRITING, _OWNER = ".lock", ".writing-", ".owner"
_KEY = re.compile("[0-9a-f]{32}")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as `500M`, `10 GiB` or `1048576`. Raises GoldenError for anything else."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise GoldenError(f"{text!r} is no size: give bytes, or such as 500M or 10G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def limit_from_environment() -> int:
    """`TTTDEBUG_CACHE_LIMIT`, or 10 GiB; 0 turns the cache off. Raises GoldenError where it is no size."""
    chosen = os.environ.get(LIMIT_VARIABLE)
    try:
        return parse_size(chosen) if chosen else DEFAULT_LIMIT
    except GoldenError as error:
        raise GoldenError(f"{LIMIT_VARIABLE}: {error}") from None


@dataclass(frozen=True)
class KeptGolden:
    """A golden that is in the cache, whole or not: `fault` says what its head, or all of it, was found to lack."""

    folder: Path
    bytes: int
    used: float  # seconds since 1970
    head: GoldenHead | None
    fault: str = ""


@dataclass(frozen=True)
class PendingGolden:
    """A golden while it is written; `owner` is open, and locked, as long as its process lives."""

    key: GoldenKey
    writer: GoldenWriter
    owner: IO[str]


@dataclass(frozen=True)
class GoldenCache:
    """A folder of goldens. `limit` is in bytes: the least recently used go when it is exceeded."""

    folder: Path = field(default_factory=lambda: cache_folder() / FOLDER)
    limit: int = field(default_factory=limit_from_environment)

    def find(self, key: GoldenKey) -> Golden | None:
        """The golden of that key, every byte of it verified; None where there is none or, said in a warning, a
        damaged one.
        """
        folder = self.folder / key.digest
        return _opened(folder) if folder.is_dir() else None

    def find_like(self, parts: Mapping[str, str]) -> Golden | None:
        """Any golden whose key has these parts, whatever its others are; verified, and None, as in `find`."""
        for kept in self.kept():
            if kept.head is not None and parts.items() <= kept.head.key.parts.items():
                return _opened(kept.folder)
        return None

    def nearest_difference(self, key: GoldenKey) -> str:
        """How the nearest golden of the same prompt differs from that key; "" where there is none."""
        others = [
            kept.head.key
            for kept in self.kept()
            if kept.head is not None and kept.head.key.parts.get("prompt") == key.parts["prompt"]
        ]
        others = [other for other in others if other.differing(key)]
        return min(others, key=lambda other: len(other.differing(key))).against(key) if others else ""

    def begin(self, key: GoldenKey) -> PendingGolden:
        """A golden that is to be written: then `publish` it, or `discard` it.

        Raises OSError where the cache cannot be written, as these two do.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            folder = self.folder / f"{_WRITING}{secrets.token_hex(8)}"
            folder.mkdir()
            owner = (folder / _OWNER).open("w")
            fcntl.flock(owner, fcntl.LOCK_EX)  # the system lets go of it when this process dies: see `_sweep`
        return PendingGolden(key, GoldenWriter(folder, key), owner)

    def publish(self, pending: PendingGolden) -> None:
        """Move a golden that was written and closed into its place, and make room for it."""
        place = self.folder / pending.key.digest
        with self._locked():
            self._sweep()
            if place.exists():  # a damaged one, or another process was first and its bits are the same
                _remove(place)
            (pending.writer.folder / _OWNER).unlink()
            pending.writer.folder.rename(place)
            pending.owner.close()
            _note_use(place)
            self._evict(self.limit)

    def discard(self, pending: PendingGolden) -> None:
        """Leave nothing of a golden that was begun."""
        pending.owner.close()
        shutil.rmtree(pending.writer.folder)

    def kept(self) -> list[KeptGolden]:
        """Every golden, the least recently used first; only its head is read."""
        if not self.folder.is_dir():
            return []
        found = [_kept(folder) for folder in self.folder.iterdir() if _KEY.fullmatch(folder.name)]
        return sorted((kept for kept in found if kept is not None), key=lambda kept: (kept.used, kept.folder.name))

    def verified(self) -> Iterator[KeptGolden]:
        """Every golden, all its bytes read: `fault` says what is wrong with it."""
        for kept in self.kept():
            if kept.head is None:
                yield kept
                continue
            try:
                refuse_other_name(kept.head)
                refuse_damage(kept.head)
                yield kept
            except GoldenError as error:
                yield KeptGolden(kept.folder, kept.bytes, kept.used, kept.head, str(error))

    def prune(self, limit: int, *, damaged: bool = False) -> list[KeptGolden]:
        """Remove what killed processes left, what has no readable head, with `damaged` whatever `verified` finds a
        fault with, and the least recently used until the rest take `limit` bytes at most. Gives what was removed.

        Raises GoldenError where the cache cannot be written.
        """
        if not self.folder.is_dir():
            return []
        faulty = [each for each in self.verified() if each.fault] if damaged else []
        try:
            with self._locked():
                self._sweep()
                for each in faulty:
                    _remove(each.folder)
                return faulty + self._evict(limit)
        except OSError as error:
            raise GoldenError(f"cannot change the golden cache {self.folder} ({error.strerror})") from None

    def _evict(self, limit: int) -> list[KeptGolden]:
        """The lock is held."""
        kept = self.kept()
        left, removed = sum(each.bytes for each in kept), []
        for each in kept:
            if left > limit or each.head is None:
                _remove(each.folder)
                left -= each.bytes
                removed.append(each)
        return removed

    def _sweep(self) -> None:
        """Remove what processes left that were killed while they wrote: nobody holds its lock. The lock is held."""
        for folder in self.folder.glob(f"{_WRITING}*"):
            if not _is_owned(folder / _OWNER):
                shutil.rmtree(folder)

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        """Hold the cache's lock, which the system lets go of when a process dies."""
        with (self.folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock


def _opened(folder: Path) -> Golden | None:
    """A golden that is about to be used."""
    try:
        golden = Golden.open(folder)
        refuse_other_name(golden.head)
    except GoldenError as error:
        logger.warning("golden cache: {}; the reference is run again", error)
        return None
    _note_use(folder)
    return golden


def golden_cache_at(folder: Path | None, limit: int | None = None) -> GoldenCache:
    """The cache in a folder, or the default one. Raises GoldenError where that is no folder."""
    cache = GoldenCache() if folder is None else GoldenCache(folder)
    if cache.folder.exists() and not cache.folder.is_dir():
        raise GoldenError(f"{cache.folder} is no folder: give one that holds goldens")
    return cache if limit is None else replace(cache, limit=limit)


def refuse_other_name(head: GoldenHead) -> None:
    """Raise GoldenError for a golden in the cache's folder that lies under another key than its own."""
    if head.folder.name != head.key.digest:
        raise GoldenError(
            f"{head.folder} is not what its name says: its key has digest {head.key.digest}; remove {head.folder}"
        )


def _is_owned(path: Path) -> bool:
    """Whether a process holds the lock of a golden that is being written."""
    try:
        with path.open("r+") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # its process died before it had one, or while it was moved into place
        return False
    return False


def _kept(folder: Path) -> KeptGolden | None:
    """None for one that another process has just removed."""
    try:
        size = sum(path.stat().st_size for path in folder.iterdir())
        used = folder.stat().st_mtime
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return KeptGolden(folder, folder.stat().st_size, 0.0, None, f"{folder} is a file")
    try:
        return KeptGolden(folder, size, used, GoldenHead.read(folder))
    except GoldenError as error:
        return KeptGolden(folder, size, used, None, str(error))


def _note_use(folder: Path) -> None:
    """The time of a golden's folder is that of its last use; a cache that one may only read keeps the old one."""
    try:
        os.utime(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
