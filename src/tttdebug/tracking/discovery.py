# SPDX-License-Identifier: Apache-2.0
"""The modules of any port, found by walking its attributes, lists, tuples and dictionaries; nothing of it is called.

A module is what can be run: an object with one of the usual entry points, or with a `__call__` that a user wrote.
Properties are never evaluated. What could not be read is listed, with the reason.
"""

from __future__ import annotations

import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import FunctionType, MappingProxyType, MemberDescriptorType, ModuleType
from typing import Any

ENTRY_POINTS = ("forward", "prefill_forward", "decode_forward")
NAMING_METHOD = "iter_executor_named_modules"
"""TT-Transformers models have it: it gives (name, module), which are that model's own names for its modules."""

_SEQUENCES = (list, tuple, deque)
_MAPPINGS = (dict, MappingProxyType)  # no other Mapping: one that reads its values from disk would read them all
_FOREIGN = frozenset({"ttnn", "torch", "numpy", "transformers", "tokenizers", "loguru", "safetensors", "jaxtyping"})
"""Packages whose objects hold no module of a port: tensors, devices, ops, configs."""
_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None), type, ModuleType, FunctionType, Enum)
_OWN_ENGINE = "tttdebug.emulator"
_STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"]


@dataclass(frozen=True)
class PortModule:
    """A module of a port. `path` leads to it from the port, "" for the port itself; `also_at` are other ways to it.

    `name` is what the port itself calls it, where it says so. Modules come in the order of their attributes.
    """

    path: str
    module: Any
    class_name: str
    entry_points: tuple[str, ...]
    also_at: tuple[str, ...] = ()
    name: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path to it, the shortest first."""
        return (self.path, *self.also_at)


@dataclass(frozen=True)
class Unread:
    """A place in a port that could not be looked into, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Discovery:
    """What a walk through a port found."""

    modules: tuple[PortModule, ...]
    unread: tuple[Unread, ...] = ()


def discover(port: Any, leave_out: Iterable[Any] = ()) -> Discovery:
    """Every module of `port`. What is in `leave_out` (the reference's modules, say) is not walked into."""
    walk = _Walk({id(value) for value in leave_out})
    walk.run(port)
    return walk.result(port)


@dataclass(frozen=True)
class _Kind:
    """What is known of a class: its entry points, its slots, and how its objects are walked."""

    entry_points: tuple[str, ...]
    slots: tuple[tuple[str, MemberDescriptorType], ...]
    is_leaf: bool
    is_torch: bool
    defines_call: bool


_Place = tuple[int, ...]


class _Walk:
    """Breadth first, so that each object is known by the shortest way to it; what was seen is not walked again."""

    def __init__(self, left_out: set[int]) -> None:
        self._left_out = left_out
        self._kinds: dict[type, _Kind] = {}
        self._seen: dict[int, Any] = {}  # the object too, so that no id is used again while the walk lasts
        self._found: dict[int, tuple[_Place, PortModule]] = {}
        self._unread: list[Unread] = []
        self._out_of_reach: list[tuple[Unread, Any]] = []

    def run(self, port: Any) -> None:
        # a list's items are as near as the list itself: `layers.0` is a better name than `first_layer`
        waiting: deque[tuple[str, Any, _Place]] = deque([("", port, ())])
        while waiting:
            path, value, place = waiting.popleft()
            kind = self._kind_of(type(value))
            if kind.is_leaf or id(value) in self._left_out:
                continue
            if id(value) in self._seen:
                self._also_at(path, value)
                continue
            self._seen[id(value)] = value
            self._note_module(path, value, place, kind)
            items = isinstance(value, (*_SEQUENCES, *_MAPPINGS))
            children = []
            for i, (step, child) in enumerate(self._children(path, value, kind)):
                if not self._kind_of(type(child)).is_leaf:
                    children.append((f"{path}.{step}" if path else step, child, (*place, i)))
            if items:
                waiting.extendleft(reversed(children))
            else:
                waiting.extend(children)

    def result(self, port: Any) -> Discovery:
        names = self._names_of(port)
        ordered = sorted(self._found.values(), key=lambda found: found[0])
        modules = tuple(replace(module, name=names.get(id(module.module), "")) for _, module in ordered)
        out_of_reach = (unread for unread, value in self._out_of_reach if id(value) not in self._seen)
        return Discovery(modules, (*self._unread, *out_of_reach))

    def _note_module(self, path: str, value: Any, place: _Place, kind: _Kind) -> None:
        own = _instance_dict(value)
        entries = tuple(
            name for name in ENTRY_POINTS if (callable(own[name]) if name in own else name in kind.entry_points)
        )
        if kind.defines_call:
            entries = (*entries, "__call__")
        if entries:
            self._found[id(value)] = (place, PortModule(path, value, type(value).__name__, entries))

    def _also_at(self, path: str, value: Any) -> None:
        if id(value) in self._found:
            place, module = self._found[id(value)]
            # a way through itself (a child's link to its parent) says nothing new
            if not any(path.startswith(f"{known}.") or not known for known in module.paths):
                self._found[id(value)] = (place, replace(module, also_at=(*module.also_at, path)))

    def _children(self, path: str, value: Any, kind: _Kind) -> Iterator[tuple[str, Any]]:
        try:
            if isinstance(value, _MAPPINGS):
                yield from self._items(path, value)
            elif isinstance(value, _SEQUENCES):
                for i, item in enumerate(value):
                    yield str(i), item
            if kind.is_torch:
                yield from ((name, child) for name, child in value._modules.items() if child is not None)
                if not _is_torchs_own(type(value)):
                    yield from _attributes(value, kind)
            elif type(value).__module__ != "builtins":
                yield from _attributes(value, kind)
        except Exception as error:  # noqa: BLE001 (a user's object may raise anything; it is reported)
            self._unread.append(Unread(path, f"raised {type(error).__name__}: {error}"))

    def _items(self, path: str, mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
        for key, item in mapping.items():
            if isinstance(key, (str, int)) and not isinstance(key, (bool, Enum)):
                yield str(key), item
            elif not self._kind_of(type(item)).is_leaf:
                reason = f"the key {key!r} cannot be part of a path; its value was left out"
                self._out_of_reach.append((Unread(path, reason), item))

    def _names_of(self, port: Any) -> dict[int, str]:
        """The port's own names for its modules, where it offers them."""
        if not callable(getattr(type(port), NAMING_METHOD, None)):
            return {}
        names: dict[int, str] = {}
        try:
            for entry in getattr(port, NAMING_METHOD)():
                name, module = entry
                names[id(module)] = str(name)
                if id(module) not in self._found:
                    self._unread.append(
                        Unread("", f"{NAMING_METHOD} names {name!r}, to which no attribute leads; give a pair for it")
                    )
        except Exception as error:  # noqa: BLE001 (a user's method may raise anything; it is reported)
            self._unread.append(Unread("", f"{NAMING_METHOD} raised {type(error).__name__}: {error}"))
        return names

    def _kind_of(self, cls: type) -> _Kind:
        kind = self._kinds.get(cls)
        if kind is None:
            kind = self._kinds[cls] = _kind(cls)
        return kind


def values_in(value: Any) -> list[Any]:
    """What an object holds: its attributes and slots, or its items; nothing for tensors, text and the like."""
    kind = _kind(type(value))
    if kind.is_leaf:
        return []
    if isinstance(value, _MAPPINGS):
        return list(value.values())
    held = list(value) if isinstance(value, _SEQUENCES) else []
    return [*held, *(item for _, item in _attributes(value, kind))]


def _attributes(value: Any, kind: _Kind) -> Iterator[tuple[str, Any]]:
    yield from ((name, item) for name, item in list(_instance_dict(value).items()) if isinstance(name, str))
    for name, slot in kind.slots:
        try:
            item = slot.__get__(value, type(value))
        except AttributeError:  # a slot that was never set
            continue
        yield name, item


def _kind(cls: type) -> _Kind:
    is_torch = _is_torch_module(cls)
    if not is_torch and _is_leaf(cls):
        return _Kind((), (), True, False, False)
    if is_torch and cls.__module__.partition(".")[0] == "transformers":
        return _Kind((), (), True, True, False)
    entries = tuple(name for name in ENTRY_POINTS if _is_function(cls, name))
    call = _defined(cls, "__call__")
    defines_call = isinstance(call, FunctionType) and not is_torch and not issubclass(cls, (*_SEQUENCES, *_MAPPINGS))
    slots = tuple(
        (name, member)
        for base in cls.__mro__
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType) and not name.startswith("__")
    )
    return _Kind(entries, slots, False, is_torch, defines_call)


def _is_leaf(cls: type) -> bool:
    if issubclass(cls, _PLAIN):
        return True
    if issubclass(cls, (*_SEQUENCES, *_MAPPINGS)):
        return False
    package, _, _ = cls.__module__.partition(".")
    if package in _FOREIGN or cls.__module__.startswith(_OWN_ENGINE):
        return True
    return package in sys.stdlib_module_names and package not in ("types", "collections") and not _is_users(package)


def _is_users(package: str) -> bool:
    """Whether a module that is called like one of the standard library is a user's own: a port in `test.py`, say."""
    file = getattr(sys.modules.get(package), "__file__", None)
    return file is not None and not Path(file).is_relative_to(_STANDARD_LIBRARY)


def _is_torch_module(cls: type) -> bool:
    torch_nn = sys.modules.get("torch.nn")  # what never imported torch has no torch modules
    return torch_nn is not None and issubclass(cls, torch_nn.Module)


def _is_torchs_own(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "torch"


def _is_function(cls: type, name: str) -> bool:
    found = _defined(cls, name)
    return (
        found is not None
        and not isinstance(found, (property, cached_property))
        and (callable(found) or isinstance(found, (staticmethod, classmethod)))
    )


def _defined(cls: type, name: str) -> Any:
    """What a class or its bases define under a name, without asking a descriptor; None for what torch only declares."""
    for base in cls.__mro__:
        if name in vars(base) and base is not object and base.__module__ != "torch.nn.modules.module":
            return vars(base)[name]
    return None


def _instance_dict(value: Any) -> dict[str, Any]:
    """The attributes of an object itself, read past any `__getattribute__` of its class; empty where it has none."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return own if isinstance(own, dict) else {}
