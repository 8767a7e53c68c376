# SPDX-License-Identifier: Apache-2.0
"""What every op has in common: its name in errors, its arguments checked, its output placed and shown to observers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch

from tttdebug.emulator.accepted_types import check_types
from tttdebug.emulator.device import ANY_DEVICE, Device, OpCall, OpRecord
from tttdebug.emulator.dtypes import DataType, Layout
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.mesh import Mesh
from tttdebug.emulator.mesh_tensor import MeshTensor, device_tensors
from tttdebug.emulator.per_device import meshed, on_each_device
from tttdebug.emulator.placement import DRAM_MEMORY_CONFIG, MemoryConfig, check_shards, with_shards
from tttdebug.emulator.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_OUTPUTS = ("output_tensor", "optional_output_tensor", "preallocated_output", "optional_tensor", "out", "output")

_running: list[str] = []  # the ops being computed; observers see the outermost, which is what the program called

OPS: dict[str, Callable[..., Any]] = {}
"""Every op by its name in the namespace, e.g. "ttnn.transformer.concatenate_heads"."""


def operation(
    name: str,
    *,
    accepts: str = "",
    only: Mapping[str, object] | None = None,
    also: Mapping[str, str] | None = None,
    on_host: bool = False,
    across_mesh: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function an op of the namespace.

    The function takes the arguments that decide values. `accepts` names, with spaces between, further keywords of the
    real op: `memory_config` and a preallocated output are handled here, the rest changes no value. `only` holds those
    that the emulator takes at one value alone; `also` maps what an argument is called in another overload to its name
    here. Tensors must be on one open device, unless `on_host`. On a mesh the
    function runs once per device, unless it works `across_mesh` itself.

    The op raises EmulatorError, naming itself and the argument, for whatever breaks these rules.
    """
    accepted, refused, renames = tuple(accepts.split()), dict(only or {}), dict(also or {})

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = signature.parameters
        takes = ", ".join([*own, *accepted, *refused])

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if not _running:
                _foretell(name, args, kwargs)
            if not across_mesh and (spread := meshed((*args, *kwargs.values()))):
                with _within(name):
                    output = on_each_device(name, call, args, kwargs)
                if not _running:
                    _show_on_mesh(name, spread, output)
                return cast(R, output)
            for other in renames.keys() & kwargs.keys():
                if renames[other] in kwargs:
                    raise EmulatorError(f"{name}: {other} and {renames[other]} are one argument, given twice")
                kwargs[renames[other]] = kwargs.pop(other)
            further = {key: kwargs.pop(key) for key in kwargs.keys() - own.keys()}
            for key, value in further.items():
                if key not in accepted and key not in refused:
                    raise EmulatorError(f"{name}: there is no argument {key!r}; it takes {takes}")
                if key in refused and value is not None and value != refused[key]:
                    raise EmulatorError(f"{name}: {key}={value!r} is not emulated, only {refused[key]!r}")
            memory_config = _typed(name, further, "memory_config", MemoryConfig)
            output_to = next((t for t in (_typed(name, further, key, Tensor) for key in _OUTPUTS) if t), None)
            try:
                arguments = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise EmulatorError(f"{name}: {error}; it takes {takes}") from None
            _check_types(name, own, arguments)
            check_types(name, arguments)
            inputs = tuple(value for value in arguments.values() if isinstance(value, Tensor))
            device = _common_device(name, inputs, on_host)
            with _within(name):
                output = function(*args, **kwargs)
            if memory_config is not None:
                for tensor in _tensors(output):
                    _place(name, tensor, memory_config, kwargs.get("program_config"))
            if output_to is not None:
                output = cast(R, _write(name, output_to, output))
            if not _running:
                device = device or next((t.device() for t in _tensors(output)), None)
                if device is not None and (device.observers or ANY_DEVICE.observers):
                    _show(device, name, inputs, output)
            return output

        vars(call)["further_arguments"] = (*accepted, *refused, *renames)
        OPS[name] = call
        return call

    return decorate


@contextmanager
def _within(name: str) -> Iterator[None]:
    _running.append(name)
    try:
        yield
    finally:
        _running.pop()


def renamed(function: Callable[..., R], names: Mapping[str, str], dropped: tuple[str, ...] = ()) -> Callable[..., R]:
    """The function with some parameters under other names, and without those that are `dropped`."""
    signature = inspect.signature(function)
    original = {new: old for old, new in names.items()}

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        return function(*args, **{original.get(key, key): value for key, value in kwargs.items()})

    kept = [p for name, p in signature.parameters.items() if name not in dropped]
    vars(call)["__signature__"] = signature.replace(
        parameters=[p.replace(name=names.get(p.name, p.name)) for p in kept]
    )
    return call


def result(values: torch.Tensor, like: Tensor, dtype: DataType | None = None, plan: object | None = None) -> Tensor:
    """The output tensor of an op: on `like`'s device, in its layout, and placed as it is where shapes agree."""
    keeps_shards = not like.is_sharded() or tuple(values.shape) == tuple(like.shape)
    memory_config = like.memory_config() if keeps_shards else DRAM_MEMORY_CONFIG
    return Tensor(values, dtype or like.dtype, like.layout, like.device(), memory_config, plan)


def unshared(values: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """`values` in memory of their own, so that a cache update in place does not reach through to `source`."""
    shared = values.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
    return values.clone() if shared else values


def device_of(tensor: Tensor) -> Device:
    """The device of a tensor that an op has already been checked to be on one."""
    device = tensor.device()
    assert device is not None
    return device


def require_tile(name: str, **tensors: Tensor | None) -> None:
    """That every given tensor is in TILE layout."""
    for argument, tensor in tensors.items():
        if tensor is not None and tensor.layout is not Layout.TILE:
            raise EmulatorError(f"{name}: {argument} is in {tensor.layout}; this op takes TILE_LAYOUT (use to_layout)")


def require_float(name: str, **tensors: Tensor | None) -> None:
    """That every given tensor has a floating-point data type."""
    for argument, tensor in tensors.items():
        if tensor is not None and not tensor.dtype.is_float:
            raise EmulatorError(f"{name}: {argument} is {tensor.dtype}; this op takes floating-point types (typecast)")


def require_sharded(name: str, **tensors: Tensor) -> None:
    """That every given tensor lies in shards, as the op's kernel needs it."""
    for argument, tensor in tensors.items():
        if not tensor.is_sharded():
            raise EmulatorError(f"{name}: {argument} is interleaved; the kernel needs it sharded (to_memory_config)")


def _typed(name: str, arguments: dict[str, Any], key: str, kind: type[Any]) -> Any:
    """The argument `key`: None, or of that type."""
    value = arguments.get(key)
    if value is not None and not isinstance(value, kind):
        raise EmulatorError(f"{name}: {key}={value!r} is not a {kind.__name__}")
    return value


def _check_types(name: str, parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, object]) -> None:
    """That tensors and data types are what they are declared to be."""
    for key, value in arguments.items():
        declared = parameters[key].annotation
        if declared == "Tensor" and not isinstance(value, Tensor):
            raise EmulatorError(f"{name}: {key} is a {type(value).__name__}; give a ttnn tensor")
        if declared == "Tensor | None" and not (value is None or isinstance(value, Tensor)):
            raise EmulatorError(f"{name}: {key} is a {type(value).__name__}; give a ttnn tensor or None")
        if declared == "DataType | None" and not (value is None or isinstance(value, DataType)):
            raise EmulatorError(f"{name}: {key}={value!r} is not a ttnn data type, e.g. ttnn.bfloat16")


def _common_device(name: str, inputs: tuple[Tensor, ...], on_host: bool) -> Device | None:
    device: Device | None = None
    for tensor in inputs:
        if not tensor.is_allocated():
            raise EmulatorError(f"{name}: {tensor} is used after deallocate")
        own = tensor.device()
        if own is None:
            if not on_host:
                raise EmulatorError(f"{name}: {tensor} is on the host; move it with to_device first")
        elif device is None:
            own.check_open(name)
            device = own
        elif own is not device:
            raise EmulatorError(f"{name}: tensors lie on different devices, {device} and {own}")
    return device


def _tensors(output: object) -> tuple[Tensor, ...]:
    if isinstance(output, Tensor):
        return (output,)
    return tuple(t for t in output if isinstance(t, Tensor)) if isinstance(output, (tuple, list)) else ()


def _place(name: str, tensor: Tensor, memory_config: MemoryConfig, program: object) -> None:
    """Puts an output where it was asked for; shards that were not named are those that its size asks for."""
    device = tensor.device()
    if device is not None and memory_config.is_sharded() and memory_config.shard_spec is None:
        rows, columns = getattr(program, "per_core_M", None), getattr(program, "per_core_N", None)
        per_core = None if rows is None or columns is None else (rows, columns)
        memory_config = with_shards(memory_config, tensor.shape, device.grid, per_core)
    check_shards(name, memory_config, tensor.shape)
    tensor.place(memory_config)


def _write(name: str, preallocated: Tensor, output: object) -> Tensor:
    if not isinstance(output, Tensor) or output.dtype is not preallocated.dtype:
        raise EmulatorError(f"{name}: the output is {output!r} and does not fit the given {preallocated}")
    for target, source in zip(device_tensors(preallocated), device_tensors(output), strict=True):
        target.replace(source.data, source.plan)
    return preallocated


def _foretell(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    """Tell the device of the first argument that has one."""
    for value in (*args, *kwargs.values()):
        first = value[0] if isinstance(value, (list, tuple)) and value else value
        device = first.device() if isinstance(first, Tensor) else first if isinstance(first, Device) else None
        if device is not None:
            for hear in (*device.foretold, *ANY_DEVICE.foretold):
                hear(OpCall(name, device.engine.name, args, dict(kwargs)))
            return


def _show_on_mesh(name: str, spread: list[Mesh | MeshTensor], output: object) -> None:
    devices = (item if isinstance(item, Mesh) else item.device() for item in spread)
    device = next((device for device in devices if device is not None), None)
    if device is not None and (device.observers or ANY_DEVICE.observers):
        _show(device, name, tuple(item for item in spread if isinstance(item, MeshTensor)), output)


def _show(device: Device, name: str, inputs: tuple[Tensor, ...], output: object) -> None:
    outputs = _tensors(output)
    record = OpRecord(name, device.engine.name, inputs, output, outputs[0].plan if outputs else None)
    for observer in (*device.observers, *ANY_DEVICE.observers):
        observer(record)
