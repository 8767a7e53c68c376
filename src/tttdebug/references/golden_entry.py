# SPDX-License-Identifier: Apache-2.0
"""One golden on disk: what the reference gave in every call of one prompt, written call by call, read lazily.

T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import GoldenError
from tttdebug.references.digest import digest_of_file
from tttdebug.references.golden_key import SCHEMA, GoldenKey

if TYPE_CHECKING:
    from torch import Tensor

HEAD, CALLS = "golden.json", "calls.json"
"""Beside the tensors of a golden: its key with the digest of every file, and where each boundary's tensor is."""

_DIGEST = "digest"


@dataclass(frozen=True)
class GoldenCall:
    """What the reference gave in one call: the tokens it read, by boundary its output, and its logits [T, V] where it
    has any. `adapters` say which tensor of a module's output that is, where there were several.
    """

    token_ids: tuple[int, ...]
    activations: Mapping[str, Tensor]
    logits_TV: Tensor | None = None
    adapters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class GoldenWriter:
    """A golden while its reference runs: `append` writes a call at once and keeps nothing of it; `close` ends it."""

    def __init__(self, folder: Path, key: GoldenKey) -> None:
        """`folder` exists and is empty. Every method raises OSError where it cannot be written."""
        self.folder = folder
        self.bytes = 0
        self._key = key
        self._started = time.perf_counter()
        self._calls: list[dict[str, Any]] = []
        self._files: dict[str, dict[str, Any]] = {}

    @property
    def calls(self) -> int:
        """How many calls are written."""
        return len(self._calls)

    def append(self, call: GoldenCall) -> None:
        """Write one call as one safetensors file."""
        from safetensors.torch import save_file

        stored: dict[str, Tensor] = {}
        names: dict[tuple[Any, ...], str] = {}

        def place(tensor: Tensor) -> dict[str, Any]:
            name = names.setdefault(_identity(tensor), str(len(names)))
            stored.setdefault(name, tensor.detach().contiguous())
            return {"tensor": name, "shape": list(tensor.shape), **_layout(tensor)}

        file = f"{len(self._calls):04d}.safetensors"
        self._calls.append(
            {
                "file": file,
                "token_ids": list(call.token_ids),
                "tensors": {boundary: place(tensor) for boundary, tensor in call.activations.items()},
                "logits": None if call.logits_TV is None else place(call.logits_TV),
                "adapters": {boundary: list(taken) for boundary, taken in call.adapters.items()},
            }
        )
        save_file(_apart(stored), self.folder / file)
        self._seal(file)

    def close(self) -> None:
        """Write what makes a folder of tensors a golden."""
        (self.folder / CALLS).write_text(json.dumps(self._calls), "utf-8")
        self._seal(CALLS)
        content = {
            "schema": SCHEMA,
            "key": dict(self._key.parts),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": round(time.perf_counter() - self._started, 3),
            "files": self._files,
        }
        text = json.dumps(content | {_DIGEST: _digest_of(content)}, indent=1)
        (self.folder / HEAD).write_text(text, "utf-8")

    def _seal(self, file: str) -> None:
        path = self.folder / file
        path.chmod(self.folder.stat().st_mode & 0o666)  # whoever may read the folder may read its files
        size = path.stat().st_size
        self.bytes += size
        self._files[file] = {"size": size, "sha256": digest_of_file(path)}


@dataclass(frozen=True)
class GoldenHead:
    """What a golden says of itself."""

    folder: Path
    key: GoldenKey
    created: str
    seconds: float
    files: Mapping[str, tuple[int, str]]  # size and SHA-256

    @property
    def bytes(self) -> int:
        """What its tensors take on disk."""
        return sum(size for size, _ in self.files.values())

    @classmethod
    def read(cls, folder: Path) -> GoldenHead:
        """Raises GoldenError where `folder` holds no golden, a damaged one, or one of a newer schema."""
        path = folder / HEAD
        try:
            content = json.loads(path.read_text("utf-8"))
            digest = content.pop(_DIGEST)
            if content["schema"] > SCHEMA:
                raise GoldenError(
                    f"{path} has schema {content['schema']}, this tttdebug reads up to {SCHEMA}; upgrade it"
                )
            if digest != _digest_of(content):
                raise GoldenError(f"{path} is damaged: it is not as it was written; remove {folder}")
            files = {name: (int(file["size"]), str(file["sha256"])) for name, file in content["files"].items()}
            return cls(folder, GoldenKey(content["key"]), content["created"], content["seconds"], files)
        except (FileNotFoundError, NotADirectoryError):
            raise GoldenError(f"{folder} is no golden: it has no {HEAD}; `tttdebug cache list` shows goldens") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise GoldenError(f"{path} is damaged ({error}); remove {folder}") from None


class Golden:
    """A golden whose every byte was found as it was written. Its files stay open, so it may be removed meanwhile."""

    def __init__(self, head: GoldenHead, calls: Sequence[Mapping[str, Any]], files: Mapping[str, Any]) -> None:
        self.head = head
        self._calls = calls
        self._files = files

    def __len__(self) -> int:
        return len(self._calls)

    @classmethod
    def open(cls, folder: Path) -> Golden:
        """Raises GoldenError where anything of it is damaged, missing, or of a newer schema."""
        from safetensors import SafetensorError, safe_open

        head = GoldenHead.read(folder)
        try:
            files = {name: safe_open(folder / name, framework="pt") for name in head.files if name != CALLS}
            refuse_damage(head)
            return cls(head, json.loads((folder / CALLS).read_text("utf-8")), files)
        except (OSError, ValueError, SafetensorError) as error:
            refuse_damage(head)  # names the file, where it is one
            raise GoldenError(f"{folder} is damaged ({error}); remove it") from None

    def call(self, number: int) -> GoldenCall:
        """One call, 0 the prefill, then one a decode step; its tensors are read when they are asked for."""
        call = self._calls[number]
        file = self._files[call["file"]]
        tensors = _Tensors(file, call["tensors"])
        logits = None if call["logits"] is None else _read(file, call["logits"])
        adapters = {boundary: tuple(taken) for boundary, taken in call["adapters"].items()}
        return GoldenCall(tuple(call["token_ids"]), tensors, logits, adapters)


def refuse_damage(head: GoldenHead) -> None:
    """Read every byte of a golden. Raises GoldenError for what is missing or not as it was written."""
    for name, (size, sha256) in head.files.items():
        path = head.folder / name
        try:
            now = path.stat().st_size
            if now != size:
                raise GoldenError(f"{path} is damaged: it has {now:,} bytes instead of {size:,}; remove {head.folder}")
            if digest_of_file(path) != sha256:
                raise GoldenError(f"{path} is damaged: it is not what was written; remove {head.folder}")
        except OSError as error:
            raise GoldenError(f"{path} cannot be read ({error.strerror}); remove {head.folder}") from None


class _Tensors(Mapping[str, "Tensor"]):
    """The tensors of one call by boundary, each read from its file when it is asked for and kept by nobody here."""

    def __init__(self, file: Any, places: Mapping[str, Mapping[str, Any]]) -> None:
        self._file = file
        self._places = places

    def __getitem__(self, boundary: str) -> Tensor:
        return _read(self._file, self._places[boundary])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for tensors that are the same values in the same memory, under whatever shape."""
    layout = "contiguous" if tensor.is_contiguous() else (tuple(tensor.shape), tensor.stride())
    return tensor.data_ptr(), tensor.numel(), tensor.dtype, layout


def _layout(tensor: Tensor) -> dict[str, Any]:
    """How a tensor lies in memory, where that is not simply one value after the other."""
    strides = tensor.stride()
    dense = tensor.is_contiguous() or any(
        stride == 0 and size > 1 for stride, size in zip(strides, tensor.shape, strict=True)
    )
    return {} if dense else {"stride": list(strides)}


def _read(file: Any, place: Mapping[str, Any]) -> Tensor:
    """A copy in memory as the reference's own lay there: sums over it are then taken in the same order."""
    import torch

    stored: Tensor = file.get_tensor(place["tensor"]).view(place["shape"])
    if "stride" not in place:
        return stored.clone()
    return torch.empty_strided(tuple(place["shape"]), tuple(place["stride"]), dtype=stored.dtype).copy_(stored)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, those that share memory with an earlier one copied: the format keeps each by itself."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return apart


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, indent=1).encode("utf-8")).hexdigest()
