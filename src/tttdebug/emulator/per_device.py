# SPDX-License-Identifier: Apache-2.0
"""An op on a mesh: the same call on every device, with that device's shard of each tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.mesh import Mesh
from tttdebug.emulator.mesh_tensor import MeshTensor, merged
from tttdebug.emulator.tensor import Tensor


def meshed(arguments: Iterable[object]) -> list[Mesh | MeshTensor]:
    """The meshes and the tensors of meshes among arguments, also those in lists."""
    found: list[Mesh | MeshTensor] = []
    for argument in arguments:
        if isinstance(argument, (Mesh, MeshTensor)):
            found.append(argument)
        elif type(argument) in (list, tuple):
            found.extend(meshed(argument))  # type: ignore[arg-type]
    return found


def on_each_device(
    name: str, function: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object]
) -> Any:
    """The outputs of `function` on every device, joined: tensors become tensors of the mesh.

    What an op wrote in place comes back as the very tensor that was given.
    """
    across = meshed((*args, *kwargs.values()))
    tensors = [item for item in across if isinstance(item, MeshTensor)]
    counts = {len(item.shards if isinstance(item, MeshTensor) else item.devices) for item in across}
    if len(counts) > 1:
        raise EmulatorError(f"{name}: tensors lie on meshes of {sorted(counts)} devices")
    outputs = [
        function(*(_part(value, i) for value in args), **{key: _part(value, i) for key, value in kwargs.items()})
        for i in range(counts.pop())
    ]
    mesh = next((item for item in across if isinstance(item, Mesh)), None)
    if mesh is None:
        mesh = next((device for t in tensors if isinstance(device := t.device(), Mesh)), None)
    return _joined(name, outputs, tensors, mesh)


def _part(value: Any, index: int) -> Any:
    if isinstance(value, MeshTensor):
        return value.shards[index]
    if isinstance(value, Mesh):
        return value.devices[index]
    if type(value) in (list, tuple):
        return type(value)(_part(item, index) for item in value)
    return value


def _joined(name: str, outputs: list[Any], tensors: list[MeshTensor], mesh: Mesh | None) -> Any:
    first = outputs[0]
    if isinstance(first, Tensor):
        given = next((t for t in tensors if any(first is shard for shard in t.shards)), None)
        if given is not None:
            return given
        on_host = first.device() is None
        topology = merged([tensor.topology for tensor in tensors]) if tensors else None
        return MeshTensor(outputs, None if on_host else mesh, topology)
    if isinstance(first, (tuple, list)):
        return type(first)(_joined(name, list(parts), tensors, mesh) for parts in zip(*outputs, strict=True))
    if first is None:
        return None
    raise EmulatorError(f"{name}: its output {first!r} cannot be joined over a mesh")
