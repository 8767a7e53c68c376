# SPDX-License-Identifier: Apache-2.0
"""New tensors shaped like others, and random ones.

Random values are torch's, of the distribution asked for: the chip's generator is another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tttdebug.emulator.device import Device
from tttdebug.emulator.dtypes import DataType, Layout
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.mesh import MeshMapper
from tttdebug.emulator.operation import device_of, operation
from tttdebug.emulator.ops.creation import from_torch, full
from tttdebug.emulator.placement import DRAM_MEMORY_CONFIG, MemoryConfig
from tttdebug.emulator.tensor import Tensor


def _like(name: str, value: float) -> Callable[..., Tensor]:
    op = f"ttnn.{name}"

    @operation(op, only={"optional_tensor": None}, on_host=True)
    def like(
        tensor: Tensor,
        dtype: DataType | None = None,
        layout: Layout | None = None,
        device: Device | None = None,
        memory_config: MemoryConfig | None = None,
    ) -> Tensor:
        return _filled(tensor, value, dtype, layout, device, memory_config)

    like.__name__ = like.__qualname__ = name
    like.__doc__ = f"A tensor of {value:g}, shaped and typed as another."
    return like


zeros_like = _like("zeros_like", 0.0)
ones_like = _like("ones_like", 1.0)


@operation("ttnn.full_like", only={"optional_tensor": None}, on_host=True)
def full_like(
    tensor: Tensor,
    fill_value: float,
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: Device | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """A tensor of one value, shaped and typed as another."""
    return _filled(tensor, fill_value, dtype, layout, device, memory_config)


@operation("ttnn.empty_like", on_host=True)
def empty_like(
    tensor: Tensor,
    *,
    dtype: DataType | None = None,
    layout: Layout | None = None,
    device: Device | None = None,
    memory_config: MemoryConfig | None = None,
) -> Tensor:
    """A tensor shaped and typed as another; its values, undefined on a device, are zeros."""
    return _filled(tensor, 0.0, dtype, layout, device, memory_config)


def _filled(
    tensor: Tensor,
    value: float,
    dtype: DataType | None,
    layout: Layout | None,
    device: Device | None,
    memory_config: MemoryConfig | None,
) -> Tensor:
    place = device or tensor.device()
    return full(list(tensor.shape), value, dtype or tensor.dtype, layout or tensor.layout, place, memory_config)


@operation("ttnn.empty")
def empty(
    shape: Sequence[int],
    dtype: DataType = DataType.BFLOAT16,
    layout: Layout = Layout.ROW_MAJOR,
    device: Device | None = None,
    memory_config: MemoryConfig = DRAM_MEMORY_CONFIG,
) -> Tensor:
    """A tensor whose values, undefined on a device, are zeros."""
    if device is None:
        raise EmulatorError("ttnn.empty: give a device")
    return full(shape, 0.0, dtype, layout, device, memory_config)


def _generator(seed: int | None) -> torch.Generator | None:
    """A generator of its own for a seed; without one (or with 0) torch's, which torch.manual_seed sets."""
    return torch.Generator().manual_seed(seed) if seed else None


@operation("ttnn.rand", across_mesh=True)
def rand(
    shape: Sequence[int],
    device: Device,
    *,
    dtype: DataType = DataType.BFLOAT16,
    layout: Layout = Layout.TILE,
    memory_config: MemoryConfig = DRAM_MEMORY_CONFIG,
    low: float = 0.0,
    high: float = 1.0,
    seed: int = 0,
    mesh_mapper: MeshMapper | None = None,
) -> Tensor:
    """Values spread evenly from `low` up to `high`; without a mapper all devices of a mesh get the same."""
    source = low + (high - low) * torch.rand(tuple(shape), generator=_generator(seed))
    return from_torch(source, dtype, layout=layout, device=device, memory_config=memory_config, mesh_mapper=mesh_mapper)


@operation("ttnn.randn", accepts="compute_kernel_config", across_mesh=True)
def randn(
    shape: Sequence[int],
    device: Device,
    *,
    dtype: DataType = DataType.BFLOAT16,
    layout: Layout = Layout.TILE,
    memory_config: MemoryConfig = DRAM_MEMORY_CONFIG,
    seed: int | None = None,
) -> Tensor:
    """Normally distributed values; all devices of a mesh get the same."""
    source = torch.randn(tuple(shape), generator=_generator(seed))
    return from_torch(source, dtype, layout=layout, device=device, memory_config=memory_config)


@operation("ttnn.bernoulli", accepts="memory_config compute_kernel_config output")
def bernoulli(input: Tensor, seed: int = 0, *, dtype: DataType | None = None) -> Tensor:
    """One with the probability that each element is, else zero."""
    chances = input.values.float().cpu()
    if chances.numel() and not 0 <= float(chances.min()) <= float(chances.max()) <= 1:
        raise EmulatorError(f"ttnn.bernoulli: input runs from {chances.min()} to {chances.max()}, not within 0 to 1")
    drawn = torch.bernoulli(chances, generator=_generator(seed))
    return from_torch(drawn, dtype or input.dtype, layout=input.layout, device=device_of(input))


@operation("ttnn.manual_seed", accepts="sub_core_grids")
def manual_seed(
    seeds: int | Tensor = 0, *, device: Device | None = None, user_ids: int | Tensor | None = None
) -> Tensor | None:
    """Seeds torch's generator, from which unseeded random ops draw."""
    if user_ids is not None or isinstance(seeds, Tensor):
        raise EmulatorError("ttnn.manual_seed: seeds per user are not emulated, only one number")
    torch.manual_seed(seeds)
    return None
