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


@dataclass(frozen=True, eq=False)
class GGUFFile:
    """A GGUF file that was found complete."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, ReaderTensor]

    def tensor(self, name: str) -> np.ndarray:
        """The named tensor in fp32, rows outermost as torch has them, in memory of its own."""
        from gguf.quants import dequantize

        stored = self.tensors[name]
        return np.array(dequantize(stored.data, stored.tensor_type), dtype=np.float32, copy=True)


def open_gguf(path: Path) -> GGUFFile:
    """Read the header of a GGUF file. Raises WeightsError where it is none, or is cut short."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise WeightsError(f"{path} is not a complete GGUF file ({error}); fetch it again") from error
    return GGUFFile(
        path=path,
        metadata={name: field.contents() for name, field in reader.fields.items()},
        tensors={tensor.name: tensor for tensor in reader.tensors},
    )
