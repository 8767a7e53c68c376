# SPDX-License-Identifier: Apache-2.0
"""A module that runs as if some of its attributes were others, and a ttnn namespace of which some ops are others.

The attributes themselves stay as they are: whoever looks at the module sees what it declares, and the fault shows in
what it computes alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import MethodType
from typing import Any, Literal

Phase = Literal["both", "prefill", "decode"]
_ENTRIES: dict[Phase, tuple[str, ...]] = {
    "both": ("forward", "prefill_forward", "decode_forward"),
    "prefill": ("forward", "prefill_forward"),
    "decode": ("decode_forward",),
}
Entry = Callable[..., Any]


class SeenAs:
    """A module with some attributes exchanged; methods of its class run on it as on the module itself."""

    def __init__(self, module: Any, changed: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_changed", changed)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # so that super() in a method of the module's class takes it for one
        return type(self._module)

    def __getattr__(self, name: str) -> Any:
        if name in self._changed:
            return self._changed[name]
        if name in vars(self._module):
            return vars(self._module)[name]
        attribute = inspect.getattr_static(type(self._module), name)
        bind = getattr(type(attribute), "__get__", None)
        return attribute if bind is None else bind(attribute, self, type(self._module))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)


class OtherOps:
    """A ttnn namespace in which the ops of `changed`, by dotted names, are others."""

    def __init__(self, ttnn: Any, changed: Mapping[str, Entry]) -> None:
        self._ttnn = ttnn
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        if name in self._changed:
            return self._changed[name]
        inside = {
            path.removeprefix(f"{name}."): op for path, op in self._changed.items() if path.startswith(f"{name}.")
        }
        found = getattr(self._ttnn, name)
        return OtherOps(found, inside) if inside else found


def entries(module: Any, phase: Phase = "both") -> list[str]:
    """The names of the ways into a module that are of this phase; `forward` serves both where there is no other."""
    own = [name for name in _ENTRIES["both"] if callable(getattr(module, name, None))]
    if "decode_forward" not in own:
        return own
    return [name for name in own if name in _ENTRIES[phase]]


def run_as(module: Any, phase: Phase = "both", **changed: Any) -> None:
    """From now on the module runs as if these attributes were so."""
    seen = SeenAs(module, changed)
    for name in entries(module, phase):
        vars(module)[name] = MethodType(inspect.getattr_static(type(module), name), seen)


def with_ops(module: Any, phase: Phase = "both", **ops: Entry) -> None:
    """From now on the module calls these ops instead of ttnn's; `__` in a name stands for a dot."""
    changed = {name.replace("__", "."): op for name, op in ops.items()}
    run_as(module, phase, ttnn=OtherOps(module.ttnn, changed))


def wrap(module: Any, around: Callable[[Entry], Entry], phase: Phase = "both") -> None:
    """Put `around` about each way into the module."""
    for name in entries(module, phase):
        entry = getattr(module, name)
        vars(module)[name] = wraps(entry)(around(entry))


def change_output(module: Any, change: Callable[[Any], Any], phase: Phase = "both") -> None:
    """From now on the module gives `change` of its output."""

    def around(entry: Entry) -> Entry:
        return lambda *args, **kwargs: change(entry(*args, **kwargs))

    wrap(module, around, phase)


def on_host(ttnn: Any, tensor: Any, change: Callable[[Any], Any], dtype: Any = None) -> Any:
    """A device tensor with its values changed by a function of a torch tensor, in the place and format it had."""
    values = change(ttnn.to_torch(tensor).float().clone())
    return ttnn.from_torch(
        values,
        dtype=dtype or tensor.dtype,
        layout=tensor.layout,
        device=tensor.device(),
        memory_config=tensor.memory_config(),
    )
