# SPDX-License-Identifier: Apache-2.0
"""Reading device tensors back, from one device or a mesh, and knowing when a read must not be tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tttdebug.backends.devices import is_emulated, namespace_of, real_ttnn_runs_on
from tttdebug.errors import DeviceError

if TYPE_CHECKING:
    import numpy as np
    import torch

FREED = "freed before it could be read"
IN_TRACE = "a metal trace was being captured"
MOCK = "mock cluster"

Part = TypeVar("Part")


def is_device_tensor(value: Any) -> bool:
    """Whether `value` is a tensor of the emulator or of the real ttnn, on one device, a mesh, or their host."""
    return any(
        base.__name__ == "Tensor" and base.__module__.startswith(("tttdebug.emulator", "ttnn"))
        for base in type(value).__mro__
    )


def device_of(value: Any) -> Any:
    """The device that a tensor of ttnn lies on; None for a torch tensor, and for one on the host."""
    return value.device() if is_device_tensor(value) else None


def unreadable(value: Any) -> str | None:
    """Why the values of a tensor must not be read, or cannot be judged; None when they can. Reads nothing itself.

    A freed tensor of the real ttnn ends the process when it is read; a read while a metal trace is being captured
    breaks the capture; and a mock cluster holds no values.
    """
    if not is_device_tensor(value):
        return None
    if not value.is_allocated():
        return FREED
    device = value.device()
    if device is None or is_emulated(value):
        return None
    if namespace_of(device).is_trace_capture_active(device):
        return IN_TRACE
    return MOCK if real_ttnn_runs_on() == "mock cluster" else None


def to_torch(value: Any) -> torch.Tensor:
    """The values of a torch, emulated or ttnn tensor as a torch tensor of its logical shape.

    What is spread over a mesh comes together as the tensor's topology says; a replicated one is read from its first
    device. Raises DeviceError for a tensor that was freed, or while a metal trace is being captured.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value
    ttnn = _checked(value)
    return _joined(value, ttnn.to_torch, torch.cat)


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """As `to_torch`, without torch; what numpy has no type for, bfloat16 and block formats, comes as float32."""
    import numpy as np

    ttnn = _checked(value)
    return _joined(value, lambda part: _numpy_of(ttnn, part), np.concatenate)


def device_tensors(value: Any) -> list[Any]:
    """The tensor of each device, in the order of the mesh; of a tensor on one device, that one alone.

    Raises DeviceError for a freed tensor, or while a metal trace is being captured.
    """
    return list(_checked(value).get_device_tensors(value))


def describe_topology(value: Any) -> str:
    """How a tensor's topology says that it lies on its mesh, e.g. "shard dim 3 over 2"; "" on one device."""
    if value.is_allocated() and len(namespace_of(value).get_device_tensors(value)) == 1:
        return ""  # a shard taken off its mesh keeps the topology of the whole
    topology = value.tensor_topology()
    counts = [int(count) for count in topology.distribution_shape()]
    axes = [
        f"replicated over {count}" if (dim := _shard_dim(placement)) is None else f"shard dim {dim} over {count}"
        for placement, count in zip(topology.placements(), counts, strict=True)
        if count > 1
    ]
    return ", ".join(axes)


def _checked(value: Any) -> Any:
    """The namespace of a tensor that may be read. Raises DeviceError for any other value."""
    if not is_device_tensor(value):
        raise DeviceError(f"cannot read a {type(value).__name__} back as a tensor; give a torch or a ttnn tensor")
    reason = unreadable(value)
    shape = tuple(int(size) for size in value.shape)
    if reason == FREED:
        raise DeviceError(f"a tensor of shape {shape} was {FREED}; capture it before ttnn.deallocate")
    if reason == IN_TRACE:
        raise DeviceError(
            f"a tensor of shape {shape} cannot be read while {IN_TRACE}; read it after ttnn.end_trace_capture"
        )
    return namespace_of(value)


def _joined(value: Any, read: Callable[[Any], Part], concatenate: Callable[[list[Part], int], Part]) -> Part:
    """The parts of all devices put together axis by axis of the distribution, the last axis first."""
    namespace = namespace_of(value)
    shards = list(namespace.get_device_tensors(value))
    if len(shards) == 1:
        return read(shards[0])
    topology = value.tensor_topology()
    counts = [int(count) for count in topology.distribution_shape()]
    placements = [_shard_dim(placement) for placement in topology.placements()]
    parts: list[Any] = shards
    for dim, count in zip(reversed(placements), reversed(counts), strict=True):
        if len(parts) % count:
            raise DeviceError(
                f"a tensor on {len(shards)} devices says that it is spread over {'x'.join(map(str, counts))}; "
                "read each of device_tensors(tensor) instead"
            )
        groups = [parts[i : i + count] for i in range(0, len(parts), count)]
        if dim is None:
            parts = [group[0] for group in groups]
        else:
            parts = [concatenate([_read_once(part, read) for part in group], dim) for group in groups]
    if len(parts) != 1:
        raise DeviceError(
            f"a tensor on {len(shards)} devices says that it is spread over {'x'.join(map(str, counts))} only; "
            "read each of device_tensors(tensor) instead"
        )
    return _read_once(parts[0], read)


def _read_once(part: Any, read: Callable[[Any], Any]) -> Any:
    """A shard's values; what was read before stays as it is."""
    return read(part) if is_device_tensor(part) else part


def _shard_dim(placement: Any) -> int | None:
    """The dimension of a PlacementShard; None for a PlacementReplicate."""
    return int(placement.dim) if hasattr(placement, "dim") else None


def _numpy_of(ttnn: Any, part: Any) -> np.ndarray[Any, Any]:
    if is_emulated(part):
        return part.to_numpy()
    host = part.cpu()
    if host.dtype in (ttnn.bfloat16, ttnn.bfloat8_b, ttnn.bfloat4_b):  # its own to_numpy gives no numbers of these
        host = ttnn.to_dtype(host, dtype=ttnn.float32)
    return host.to(ttnn.ROW_MAJOR_LAYOUT).to_numpy()
