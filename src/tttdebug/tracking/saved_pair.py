# SPDX-License-Identifier: Apache-2.0
"""The two saved tensors of one record, read a part at a time: what is looked at is all that is loaded."""

# R rows (all leading dims), C channels (the last dim)

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tttdebug.errors import RunError
from tttdebug.tracking.run_files import check_seal

_VALUES_AT_ONCE = 1 << 20
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # numpy has no bfloat16: its bits are read


@dataclass(frozen=True)
class SavedTensor:
    """One tensor within a safetensors file: where its bytes are, and what they mean."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    offset: int

    def rows(self, start: int, end: int) -> np.ndarray:
        """Rows `start` to `end` [R, C] in float32. Raises RunError where the file is shorter than it says."""
        channels = self.shape[-1] if self.shape else 1
        dtype = np.dtype(_DTYPES[self.dtype])
        count = (end - start) * channels
        values = np.fromfile(self.path, dtype, count, offset=self.offset + start * channels * dtype.itemsize)
        if len(values) != count:
            raise RunError(f"{self.path} is damaged (it ends too early); run again with --save-tensors all")
        if self.dtype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(end - start, channels).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Block:
    """Some rows of a pair, the first of them row `start`."""

    start: int
    reference_RC: np.ndarray
    port_RC: np.ndarray


@dataclass(frozen=True)
class SavedPair:
    """A record's reference and port on disk, of one shape."""

    reference: SavedTensor
    port: SavedTensor

    @classmethod
    def open(cls, path: Path, seal: str | None) -> SavedPair:
        """Raises RunError naming the file that is damaged, missing, or not the sealed one."""
        from safetensors import SafetensorError, safe_open

        if seal is not None:
            check_seal(path, seal)
        try:
            with safe_open(path, "numpy"):  # the library's own check of the header and the file's length
                described, data = _header(path)
            reference, port = (_described(path, described[name], data) for name in ("reference", "port"))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); run again with --save-tensors all") from None
        if reference.shape != port.shape:
            raise RunError(f"{path} is damaged: its tensors differ in shape; run again with --save-tensors all")
        return cls(reference, port)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.reference.shape

    @property
    def rows(self) -> int:
        """How many rows of the last dimension there are: the product of all others."""
        return int(np.prod(self.shape[:-1], dtype=np.int64))

    @property
    def channels(self) -> int:
        return self.shape[-1] if self.shape else 1

    def blocks(self, rows: slice = slice(None)) -> Iterator[Block]:
        """The asked rows (step 1), some at a time and in their order. Raises RunError where the file is damaged."""
        first, last, _ = rows.indices(self.rows)
        at_once = max(1, _VALUES_AT_ONCE // max(1, self.channels))
        for start in range(first, last, at_once):
            end = min(start + at_once, last)
            yield Block(start, self.reference.rows(start, end), self.port.rows(start, end))

    def part(self, rows: slice = slice(None), channels: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """(reference [R, C], port [R, C]) of the asked rows and channels. Raises RunError as `blocks` does."""
        blocks = [(block.reference_RC[:, channels], block.port_RC[:, channels]) for block in self.blocks(rows)]
        if not blocks:
            empty = np.empty((0, self.channels), np.float32)[:, channels]
            return empty, empty
        reference, port = zip(*blocks, strict=True)
        return np.concatenate(reference), np.concatenate(port)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of its tensors, and where their bytes begin.

    Eight bytes with the length of a JSON object, the object, the tensors: https://github.com/huggingface/safetensors.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def _described(path: Path, described: dict[str, Any], data: int) -> SavedTensor:
    if described["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {described['dtype']} is not one of {', '.join(_DTYPES)}")
    return SavedTensor(path, tuple(described["shape"]), described["dtype"], data + described["data_offsets"][0])
