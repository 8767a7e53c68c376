# SPDX-License-Identifier: Apache-2.0
"""The asynchronous collectives of ttnn.experimental. Semaphores, buffers and links change no value.

ttnn overloads them by position; an argument may come at any place that one of its overloads gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tttdebug.emulator.collectives import Topology
from tttdebug.emulator.device import Device
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.kernel import WormholeComputeKernelConfig
from tttdebug.emulator.operation import operation
from tttdebug.emulator.ops.collective import gather_over, scatter_sums_over, sum_over
from tttdebug.emulator.ops.eltwise import FusedFunction
from tttdebug.emulator.ops.matmul import linear
from tttdebug.emulator.placement import BufferType, CoreGrid, CoreRangeSet, MemoryConfig
from tttdebug.emulator.programs import MatmulProgram
from tttdebug.emulator.tensor import Tensor

_SEMAPHORES = "multi_device_global_semaphore barrier_semaphore"
_LINKS = "num_links subdevice_id chunks_per_sync num_workers_per_link num_buffers_per_channel"


@dataclass(frozen=True)
class GlobalSemaphore:
    """Counts on every core; nothing waits for one in the emulator."""

    initial_value: int


def create_global_semaphore(
    mesh_device: Device, cores: CoreRangeSet, initial_value: int, buffer_type: BufferType = BufferType.L1
) -> GlobalSemaphore:
    """A semaphore to hand to the asynchronous collectives."""
    if not isinstance(mesh_device, Device):
        raise EmulatorError(f"ttnn.create_global_semaphore: mesh_device={mesh_device!r} is not an emulated device")
    return GlobalSemaphore(int(initial_value))


def reset_global_semaphore_value(global_semaphore: GlobalSemaphore, reset_value: int) -> None:
    """Accepted; nothing waits for a semaphore."""
    if not isinstance(global_semaphore, GlobalSemaphore):
        raise EmulatorError(f"ttnn.reset_global_semaphore_value: {global_semaphore!r} is not a global semaphore")


@operation(
    "ttnn.experimental.all_gather_async",
    accepts=f"memory_config sub_core_grids use_optimal_ccl_for_llama use_broadcast {_LINKS} {_SEMAPHORES} mesh_device "
    "topology persistent_output_buffer persistent_output_tensor",
    across_mesh=True,
)
def _all_gather_async(input_tensor: Tensor, *, dim: int, cluster_axis: int | None = None) -> Tensor:
    return gather_over("ttnn.experimental.all_gather_async", input_tensor, dim, cluster_axis)


def all_gather_async(input_tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """On every device the tensors of all devices (along one axis of the mesh) joined along `dim`."""
    names = ["persistent_output_buffer", "dim", "multi_device_global_semaphore"]
    if args and isinstance(args[0], int):
        by_axis = len(args) > 2 or ("cluster_axis" in kwargs and "mesh_device" in kwargs)
        names = ["dim", "cluster_axis", "mesh_device", "topology", "multi_device_global_semaphore"]
        if not by_axis:
            names = ["dim", "multi_device_global_semaphore"]
    return _all_gather_async(input_tensor, **_named("ttnn.experimental.all_gather_async", names, args, kwargs))


@operation(
    "ttnn.experimental.reduce_scatter_minimal_async",
    accepts=f"memory_config intermediate_memory_config {_LINKS} {_SEMAPHORES} persistent_output_buffers",
    across_mesh=True,
)
def _reduce_scatter_minimal_async(
    input_tensor: Tensor,
    *,
    dim: int,
    topology: Topology = Topology.Ring,
    cluster_axis: int | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    return scatter_sums_over(
        "ttnn.experimental.reduce_scatter_minimal_async", input_tensor, dim, cluster_axis, topology
    )


def reduce_scatter_minimal_async(input_tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """On every device its part along `dim` of the sum of all devices' tensors."""
    names = ["persistent_output_buffers", "dim", "multi_device_global_semaphore"]
    op = "ttnn.experimental.reduce_scatter_minimal_async"
    return _reduce_scatter_minimal_async(input_tensor, **_named(op, names, args, kwargs))


@operation(
    "ttnn.experimental.all_reduce_async",
    accepts="memory_config num_links subdevice_id barrier_semaphores rs_global_semaphores ag_global_semaphores "
    "multi_device_global_semaphore mesh_device buffer_tensor num_devices use_noc1_only use_optimal_ccl_for_llama",
    only={"dtype": None, "fp32_dest_acc": False},
    across_mesh=True,
)
def _all_reduce_async(
    input_tensor: Tensor,
    *,
    math_op: object | None = None,
    cluster_axis: int | None = None,
    topology: Topology | None = Topology.Linear,
) -> Tensor:
    op = "ttnn.experimental.all_reduce_async"
    if math_op is not None and getattr(math_op, "name", None) != "Sum":
        raise EmulatorError(f"{op}: math_op={math_op!r} is not emulated, only ttnn.ReduceType.Sum")
    return sum_over(op, input_tensor, cluster_axis, topology or Topology.Linear)


def all_reduce_async(input_tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """On every device the sum of all devices' tensors."""
    barriers = ["barrier_semaphores", "rs_global_semaphores", "ag_global_semaphores", "math_op"]
    if "buffer_tensor" in kwargs or (args and isinstance(args[0], Tensor)):
        names = ["buffer_tensor", "cluster_axis", "mesh_device", "multi_device_global_semaphore"]
    elif "num_devices" in kwargs or (len(args) > 1 and not isinstance(args[1], Device)):
        names = ["num_devices", *barriers]
    else:
        names = ["cluster_axis", "mesh_device", *barriers]
    return _all_reduce_async(input_tensor, **_named("ttnn.experimental.all_reduce_async", names, args, kwargs))


@operation(
    "ttnn.experimental.all_gather_matmul_async",
    accepts=f"{_LINKS} {_SEMAPHORES} persistent_output_buffer all_gather_core_grid_offset topology",
    across_mesh=True,
)
def _all_gather_matmul_async(
    input_tensor: Tensor,
    weight_tensor: Tensor,
    *,
    dim: int,
    bias: Tensor | None = None,
    memory_config_ag: MemoryConfig | None = None,
    memory_config_mm: MemoryConfig | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    dtype: Any = None,
    program_config: MatmulProgram | None = None,
    activation: FusedFunction | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    core_grid: CoreGrid | None = None,
) -> list[Tensor]:
    gathered = gather_over("ttnn.experimental.all_gather_matmul_async", input_tensor, dim, None)
    if memory_config_ag is not None:
        gathered.place(memory_config_ag)
    product = linear(
        gathered,
        weight_tensor,
        bias=bias,
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        dtype=dtype,
        program_config=program_config,
        activation=activation,
        compute_kernel_config=compute_kernel_config,
        core_grid=core_grid,
        **({} if memory_config_mm is None else {"memory_config": memory_config_mm}),
    )
    return [gathered, product]


def all_gather_matmul_async(input_tensor: Tensor, *args: Any, **kwargs: Any) -> list[Tensor]:
    """The all-gather of the input, and its product with each device's weights."""
    names = ["weight_tensor", "persistent_output_buffer", "dim", "multi_device_global_semaphore"]
    op = "ttnn.experimental.all_gather_matmul_async"
    return _all_gather_matmul_async(input_tensor, **_named(op, [*names, "all_gather_core_grid_offset"], args, kwargs))


def _named(op: str, names: Sequence[str], args: Sequence[object], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Positional arguments by the names of the overload they belong to."""
    if len(args) > len(names):
        raise EmulatorError(f"{op}: {len(args) + 1} positional arguments; after input_tensor it takes {list(names)}")
    given = dict(zip(names, args, strict=False))
    twice = given.keys() & kwargs.keys()
    if twice:
        raise EmulatorError(f"{op}: {', '.join(sorted(twice))} given twice")
    return {**given, **kwargs}
