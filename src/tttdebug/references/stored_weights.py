# SPDX-License-Identifier: Apache-2.0
"""The weights of a Hugging Face folder as a mapping that reads each from its safetensors file when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tttdebug.errors import WeightsError
from tttdebug.references.folder import weights_files

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class StoredWeights(Mapping[str, "Tensor"]):
    """Weights by the names of their file, in `dtype`; each is a copy, so that no file stays in memory.

    Raises WeightsError where the folder's weights are no safetensors or cannot be read.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        from safetensors import SafetensorError, safe_open

        self.folder = folder
        self._dtype = dtype
        self._files: dict[str, Path] = {}
        self.elements = 0
        for path in weights_files(folder):
            if path.suffix != ".safetensors":
                raise WeightsError(f"{path} is no safetensors file, so its layers cannot be read one by one")
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 (it is no mapping)
                        self._files[name] = path
                        self.elements += math.prod(file.get_slice(name).get_shape())
            except (OSError, SafetensorError) as error:
                raise WeightsError(f"{path} cannot be read ({error}): fetch the model again") from None

    @property
    def bytes(self) -> int:
        """What all of them take in memory."""
        return self.elements * self._dtype.itemsize

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        path = self._files[name]
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor(name).to(self._dtype, copy=True)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{name} of {path} cannot be read ({error}): fetch the model again") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def available_memory() -> int | None:
    """Bytes that this process may still take, of the machine and of its control group; None where nobody says."""
    left = [size for size in (_of_machine(), _of_control_group()) if size is not None]
    return min(left, default=None)


def _of_machine() -> int | None:
    path = Path("/proc/meminfo")
    if not path.is_file():
        return None
    lines = dict(line.split(":", 1) for line in path.read_text("utf-8").splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def _of_control_group(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    limit, used, kinds = (folder / name for name in ("memory.max", "memory.current", "memory.stat"))
    if not all(path.is_file() for path in (limit, used, kinds)) or limit.read_text().strip() == "max":
        return None
    counted = dict(line.split() for line in kinds.read_text().splitlines())
    return int(limit.read_text()) - int(used.read_text()) + int(counted.get("inactive_file", 0))
