# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of weights: of one file, of several, of a torch module's parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.references.reference import Progress, say_nothing

if TYPE_CHECKING:
    from torch import nn

CHUNK = 1 << 24  # bytes read at a time


def digest_of_file(path: Path, progress: Progress = say_nothing) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest, size, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(f"checking {path.name}", done / size)
    return digest.hexdigest()


def digest_of_files(paths: Sequence[Path], progress: Progress = say_nothing) -> str:
    """SHA-256 of weights files of one folder: the file's own, or for several what `sha256sum * | sha256sum` prints."""
    if len(paths) == 1:
        return digest_of_file(paths[0], progress)
    lines = [f"{digest_of_file(path, progress)}  {path.name}\n" for path in sorted(paths)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_of_module(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bits of a module's parameters and saved buffers, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
