# SPDX-License-Identifier: Apache-2.0
"""A tensor as ttnn shows it: values that its data type can hold exactly, a layout, a memory config and a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch

from tttdebug.emulator.dtypes import DataType, Layout, StorageType, round_up
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.placement import DRAM_MEMORY_CONFIG, MemoryConfig

if TYPE_CHECKING:
    from tttdebug.emulator.device import Device
    from tttdebug.emulator.mesh import MeshComposer
    from tttdebug.emulator.mesh_tensor import TensorTopology

_ids = count()


def next_tensor_id() -> int:
    """A number that no other tensor has."""
    return next(_ids)


class Shape(tuple[int, ...]):
    """ttnn's Shape: indexed by an integer, iterable, equal to a list or tuple of the same sizes."""

    def __new__(cls, sizes: Sequence[int] = ()) -> Shape:
        return super().__new__(cls, (int(size) for size in sizes))

    @property
    def rank(self) -> int:
        return len(self)

    def to_rank(self, rank: int) -> Shape:
        """The same shape with leading ones added, or taken away, until it has `rank` sizes."""
        surplus = len(self) - rank
        if surplus > 0 and any(size != 1 for size in tuple(self)[:surplus]):
            raise EmulatorError(f"Shape.to_rank: {self} has more than {rank} sizes that are not 1")
        return Shape([1] * -surplus + list(tuple(self)[max(surplus, 0) :]))

    def __getitem__(self, index: SupportsIndex | slice) -> int:  # type: ignore[override]
        if isinstance(index, slice):
            raise TypeError("ttnn.Shape takes one integer index, not a slice; write list(shape)[a:b]")
        return super().__getitem__(index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, list)) and tuple.__eq__(self, tuple(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def __repr__(self) -> str:
        return f"Shape({list(self)})"


class Tensor:
    """A ttnn tensor. On a host (no device) it keeps what it was made from and quantises when it is read.

    Programs make one of a torch tensor and a data type and take it to a layout and a device with `to`.
    """

    def __init__(
        self,
        data: torch.Tensor,
        dtype: DataType,
        layout: Layout | None = None,
        device: Device | None = None,
        memory_config: MemoryConfig = DRAM_MEMORY_CONFIG,
        plan: object | None = None,
    ) -> None:
        if not isinstance(data, torch.Tensor) or not isinstance(dtype, DataType):
            raise EmulatorError(
                f"ttnn.Tensor: {type(data).__name__} and {dtype!r}; give a torch tensor and a data type"
            )
        self._data: torch.Tensor | None = data
        self._shape = Shape(data.shape)
        self._device = device
        self._memory_config = memory_config
        self.dtype = dtype
        self.layout = layout or (Layout.TILE if dtype.is_block else Layout.ROW_MAJOR)
        self.plan = plan
        self.tensor_id = next_tensor_id()

    @property
    def data(self) -> torch.Tensor:
        """The torch tensor behind this one. Raises EmulatorError after deallocate."""
        if self._data is None:
            raise EmulatorError(
                f"tensor {self.tensor_id} {self._shape} {self.dtype} is used after deallocate; on a device this reads "
                "freed memory"
            )
        return self._data

    @property
    def values(self) -> torch.Tensor:
        """The values that a reader on the device, or of the host tensor, finds."""
        return self.data if self._device is not None else self.dtype.format.quantise(self.data)

    def replace(self, data: torch.Tensor, plan: object | None = None) -> None:
        """Other contents of the same shape, as an op writes them into a given output tensor."""
        if data.shape != self.data.shape:
            raise EmulatorError(f"tensor {self.tensor_id} has {self._shape}; it cannot take {list(data.shape)}")
        self._data, self.plan = data, plan

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def padded_shape(self) -> Shape:
        """The shape in memory: in tiles the last two sizes are multiples of 32."""
        if self.layout is Layout.ROW_MAJOR:
            return self._shape
        outer, inner = tuple(self._shape)[:-2], tuple(self._shape)[-2:]
        return Shape([*outer, *(round_up(size) for size in inner)])

    def is_allocated(self) -> bool:
        return self._data is not None

    def deallocate(self, force: bool = True) -> None:
        """Frees the tensor; any later use raises."""
        self._data = None

    def device(self) -> Device | None:
        return self._device

    def memory_config(self) -> MemoryConfig:
        return self._memory_config

    def place(self, memory_config: MemoryConfig) -> None:
        """Records where the tensor lies; its values stay."""
        self._memory_config = memory_config

    def is_sharded(self) -> bool:
        return self._memory_config.is_sharded()

    def storage_type(self) -> StorageType:
        return StorageType.HOST if self._device is None else StorageType.DEVICE

    def get_dtype(self) -> DataType:
        return self.dtype

    def get_layout(self) -> Layout:
        return self.layout

    def volume(self) -> int:
        return math.prod(self.padded_shape)

    def logical_volume(self) -> int:
        return math.prod(self._shape)

    def cpu(self, blocking: bool = True, cq_id: object | None = None) -> Tensor:
        """The tensor on the host."""
        return Tensor(self.values.clone(), self.dtype, self.layout)

    def to(self, target: Layout | Device, memory_config: MemoryConfig | None = None) -> Tensor:
        """The tensor in another layout, or on a device."""
        from tttdebug.emulator.ops import creation

        if isinstance(target, Layout):
            return creation.to_layout(self, target)
        return creation.to_device(self, target, memory_config)

    def to_torch(self, mesh_composer: MeshComposer | None = None) -> torch.Tensor:
        from tttdebug.emulator.ops import creation

        return creation.to_torch(self, mesh_composer=mesh_composer)

    def tensor_topology(self) -> TensorTopology:
        """How the tensor was spread over a mesh: on one device, whole."""
        from tttdebug.emulator.mesh import MeshShape, PlacementReplicate
        from tttdebug.emulator.mesh_tensor import TensorTopology

        return TensorTopology(MeshShape(1), (PlacementReplicate(),))

    def to_numpy(self, mesh_composer: MeshComposer | None = None) -> np.ndarray[Any, Any]:
        """A numpy copy; what numpy has no type for (bfloat16) comes as float32."""
        values = self.to_torch(mesh_composer)
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()

    def to_list(self) -> list[object]:
        return self.to_torch().tolist()

    def element_size(self) -> int:
        """Bytes of an element; a block format counts a byte."""
        return max(1, round(self.dtype.format.bytes_per_element))

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements in another shape: sizes, or one list of them."""
        from tttdebug.emulator.ops import data_movement

        sizes = [s for size in shape for s in ([size] if isinstance(size, int) else size)]
        return data_movement.reshape(self, sizes)

    def item(self) -> float | int:
        return self.values.item()

    def __getitem__(self, slices: object) -> Tensor:
        from tttdebug.emulator.ops import data_movement

        return data_movement.index(self, slices)

    def __add__(self, other: Tensor | float) -> Tensor:
        from tttdebug.emulator.ops import eltwise

        return eltwise.add(self, other)

    __radd__ = __add__

    def __sub__(self, other: Tensor | float) -> Tensor:
        from tttdebug.emulator.ops import eltwise

        return eltwise.subtract(self, other)

    def __rsub__(self, other: float) -> Tensor:
        from tttdebug.emulator.ops import eltwise

        return eltwise.rsub(self, other)

    def __mul__(self, other: Tensor | float) -> Tensor:
        from tttdebug.emulator.ops import eltwise

        return eltwise.multiply(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Tensor | float) -> Tensor:
        from tttdebug.emulator.ops import eltwise

        return eltwise.divide(self, other)

    def __rtruediv__(self, other: float) -> Tensor:
        from tttdebug.emulator.ops import unary

        return unary.rdiv(self, other)

    def __lt__(self, other: Tensor | float) -> Tensor:
        return self._compared("lt", other)

    def __le__(self, other: Tensor | float) -> Tensor:
        return self._compared("le", other)

    def __gt__(self, other: Tensor | float) -> Tensor:
        return self._compared("gt", other)

    def __ge__(self, other: Tensor | float) -> Tensor:
        return self._compared("ge", other)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._compared("eq", other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._compared("ne", other)

    __hash__ = object.__hash__

    def _compared(self, op: str, other: object) -> Tensor:
        from tttdebug.emulator.operation import OPS

        if not isinstance(other, (Tensor, int, float)):
            return NotImplemented
        return OPS[f"ttnn.{op}"](self, other)

    def __matmul__(self, other: Tensor) -> Tensor:
        from tttdebug.emulator.ops import matmul

        return matmul.matmul(self, other)

    def __repr__(self) -> str:
        state = "" if self.is_allocated() else ", deallocated"
        where = "host" if self._device is None else f"device {self._device.device_id}"
        return f"Tensor(shape={self._shape}, dtype={self.dtype}, layout={self.layout}, {where}{state})"
