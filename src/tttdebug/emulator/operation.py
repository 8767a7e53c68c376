# SPDX-License-Identifier: Apache-2.0
"""What every op has in common: its name in errors, its arguments checked, its output placed and shown to observers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from tttdebug.emulator.device import Device, OpRecord
from tttdebug.emulator.dtypes import DataType, Layout
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.placement import DRAM_MEMORY_CONFIG, MemoryConfig
from tttdebug.emulator.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")

# Keywords of many ops that never change a value.
_EVERYWHERE = ("queue_id", "sub_core_grids", "sub_device_id", "use_multicore")
_OUTPUTS = ("output_tensor", "optional_output_tensor", "preallocated_output")


def operation(
    name: str, *, accepts: Iterable[str] = (), only: dict[str, object] | None = None, on_host: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function an op of the namespace.

    `accepts` names further keywords of the real op that do not change values; `only` those that the emulator takes at
    one value alone. `memory_config` and a preallocated output are handled here unless the function takes them itself.
    Tensors must be on one open device, unless `on_host`. Every violation raises EmulatorError.
    """
    only = only or {}
    ignored = {*accepts, *_EVERYWHERE}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = signature.parameters.keys()

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            memory_config: MemoryConfig | None = None
            preallocated: Tensor | None = None
            for key in kwargs.keys() - own:
                value = kwargs.pop(key)
                if key == "memory_config":
                    memory_config = _memory_config(name, value)
                elif key in _OUTPUTS:
                    preallocated = _preallocated(name, key, value)
                elif key in only:
                    if value != only[key] and value is not None:
                        raise EmulatorError(f"{name}: {key}={value!r} is not emulated, only {only[key]!r}")
                elif key not in ignored:
                    known = ", ".join(sorted({*own, *only, *accepts, "memory_config"}))
                    raise EmulatorError(f"{name}: there is no argument {key!r}; it takes {known}")
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise EmulatorError(f"{name}: {error}; it takes {', '.join(own)}") from None
            inputs = tuple(a for a in bound.arguments.values() if isinstance(a, Tensor))
            device = _common_device(name, inputs, on_host)
            output = function(*bound.args, **bound.kwargs)
            if memory_config is not None:
                for tensor in _tensors(output):
                    tensor.place(memory_config)
            if preallocated is not None:
                output = cast(R, _write(name, preallocated, output))
            if device is not None and device.observers:
                _show(device, name, inputs, output)
            return output

        return call

    return decorate


def result(values: object, like: Tensor, dtype: DataType | None = None, plan: object | None = None) -> Tensor:
    """The output tensor of an op: on `like`'s device and layout, and in its memory config where the shape is the same."""
    import torch

    assert isinstance(values, torch.Tensor)
    same = tuple(values.shape) == tuple(like.shape)
    memory_config = like.memory_config() if same or not like.is_sharded() else DRAM_MEMORY_CONFIG
    return Tensor(values, dtype or like.dtype, like.layout, like.device(), memory_config, plan)


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


def _memory_config(name: str, value: object) -> MemoryConfig | None:
    if value is not None and not isinstance(value, MemoryConfig):
        raise EmulatorError(f"{name}: memory_config={value!r} is not a MemoryConfig")
    return value


def _preallocated(name: str, key: str, value: object) -> Tensor | None:
    if value is not None and not isinstance(value, Tensor):
        raise EmulatorError(f"{name}: {key}={value!r} is not a tensor")
    return value


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


def _write(name: str, preallocated: Tensor, output: object) -> Tensor:
    if not isinstance(output, Tensor) or output.dtype is not preallocated.dtype:
        raise EmulatorError(f"{name}: the output is {output!r} and does not fit the given {preallocated}")
    preallocated.replace(output.data)
    return preallocated


def _show(device: Device, name: str, inputs: tuple[Tensor, ...], output: object) -> None:
    outputs = _tensors(output)
    record = OpRecord(name, device.engine.name, inputs, output, outputs[0].plan if outputs else None)
    for observer in device.observers:
        observer(record)
