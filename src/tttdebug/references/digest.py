# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of weights: of one file, of several, of what a torch module holds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.references.reference import Progress, say_nothing

if TYPE_CHECKING:
    from torch import Tensor, nn

CHUNK = 1 << 24  # bytes read at a time
MOST_THREADS = 16


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
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bits(tensor))
    return digest.hexdigest()


def digest_of_held(module: nn.Module) -> str:
    """SHA-256 over the names, dtypes, shapes and bits of all that a module holds in memory now, buffers that are not
    saved too. Tensors on the meta device hold nothing: of these it says where they would be.

    It is not `digest_of_module`: every tensor has a digest of its own here, so that all cores work on them.
    """
    held = {id(tensor): (name, tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    tensors = sorted(held.values(), key=lambda each: each[0])
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as pool:
        digests = pool.map(lambda each: _digest_of_tensor(each[1]), tensors)
    digest = hashlib.sha256()
    for (name, tensor), bits in zip(tensors, digests, strict=True):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.device.type} {bits}\n".encode())
    return digest.hexdigest()


def digest_of_tensor(tensor: Tensor) -> str:
    """SHA-256 over dtype, shape and bits of one tensor."""
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + bytes(_bits(tensor))).hexdigest()


def _digest_of_tensor(tensor: Tensor) -> str:
    return "" if tensor.is_meta else hashlib.sha256(_bits(tensor)).hexdigest()


def _bits(tensor: Tensor) -> memoryview:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
