# SPDX-License-Identifier: Apache-2.0
"""A run's files on disk: replaced in one step, sealed by digests, none of them a link that leads out of the folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from tttdebug.errors import RunError

_CHUNK = 1 << 22  # bytes read at a time


def replace_text(path: Path, text: str) -> None:
    """Replace a file of a run in one step. Raises RunError when it cannot be written; what was there is kept."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}; what was there is kept; make room, or choose another folder"
        ) from None


def seals_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of those of the named files that are in a run's folder."""
    return {name: _digest(folder / name) for name in sorted(names) if (folder / name).is_file()}


def sealed_bytes(path: Path, seal: str | None) -> bytes:
    """A file's bytes, which are those that were sealed; without a seal whatever they are.

    Raises RunError naming the file where they are others, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if seal is not None and hashlib.sha256(content).hexdigest() != seal:
        raise _not_sealed(path)
    return content


def check_seal(path: Path, seal: str) -> None:
    """Read through a file that is too large to hold. Raises RunError as `sealed_bytes` does."""
    try:
        digest = _digest(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if digest != seal:
        raise _not_sealed(path)


def refuse_links_that_lead_out(folder: Path) -> None:
    """Raise RunError where a link in a run's folder leads out of it: what is read or written there is the run's own."""
    root = folder.resolve()
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise RunError(f"{path} is a link that leads out of its run; put the file itself there, or remove it")


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be read ({error.strerror}); restore it from a copy, or run again")


def _not_sealed(path: Path) -> RunError:
    return RunError(
        f"{path} is damaged: its SHA-256 is not the one that its run noted in manifest.json; restore it from a copy, "
        "or run again"
    )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
