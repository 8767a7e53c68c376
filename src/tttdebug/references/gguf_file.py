# SPDX-License-Identifier: Apache-2.0
"""Opening a GGUF file: its metadata as plain values, its tensors dequantised to fp32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tttdebug.errors import WeightsError

if TYPE_CHECKING:
    from gguf import ReaderTensor

_REQUIRED = object()


@dataclass(frozen=True, eq=False)
class GGUFFile:
    """A GGUF file that was found complete. `tensors` are as stored: quantised, read when touched."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, ReaderTensor]

    def value(self, key: str, default: Any = _REQUIRED) -> Any:
        """A value of the metadata. Raises WeightsError where it is absent and there is no default."""
        found = self.metadata.get(key, default)
        if found is _REQUIRED:
            raise WeightsError(f"{self.path} has no {key} in its metadata: convert the model to GGUF anew")
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor as torch has it, rows outermost. Raises WeightsError where there is no such tensor."""
        if name not in self.tensors:
            raise WeightsError(f"{self.path} has no tensor {name}: convert the model to GGUF anew")
        return tuple(int(size) for size in reversed(self.tensors[name].shape))

    def tensor(self, name: str) -> np.ndarray:
        """A tensor in fp32, in memory of its own. Raises WeightsError where its number format is not known."""
        from gguf.quants import dequantize

        stored = self.tensors[name]
        try:
            values = dequantize(stored.data, stored.tensor_type)
        except NotImplementedError as error:
            raise WeightsError(
                f"{self.path} stores {name} as {stored.tensor_type.name}, which the gguf package cannot read: "
                "convert the model to another type, Q8_0 for instance"
            ) from error
        values = np.ascontiguousarray(values.reshape(self.shape(name)), dtype=np.float32)
        return values if values.flags.writeable else values.copy()  # read-only: still the file itself


def open_gguf(path: Path) -> GGUFFile:
    """Read the header of a GGUF file. Raises WeightsError where it is none, or is cut short."""
    from gguf import GGUFReader

    with path.open("rb") as start:
        if start.read(4) != b"GGUF":
            raise WeightsError(f"{path} is not a GGUF file: give one, or the whole folder of a Hugging Face model")
    try:
        reader = GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise WeightsError(
            f"{path} is a GGUF file cut short or damaged (the gguf package says: {error}): fetch it again"
        ) from error
    return GGUFFile(path=path, metadata=metadata, tensors=tensors)
