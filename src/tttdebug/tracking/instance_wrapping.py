# SPDX-License-Identifier: Apache-2.0
"""Putting a listener in the place of one object's entry points, and taking every one of them out again.

TTNN models call `prefill_forward`, `decode_forward`, `forward` or the object itself; any of them may be a method, an
attribute of the instance, a partial or a property, on objects with `__slots__`, frozen ones, and ones made by
`object.__new__`. Nothing but the entry points of the one object is changed, and no subclass is made of its class.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any

from tttdebug.errors import PairingError

CALL = "__call__"
ENTRY_POINTS = ("forward", "prefill_forward", "decode_forward")
_ABSENT = object()

Listener = Callable[..., Any]


def entry_points(module: Any, boundary: str) -> dict[str, Callable[..., Any]]:
    """The ways into an object by name, each bound to it. Raises PairingError when it has none."""
    found = {}
    for name in ENTRY_POINTS:
        try:
            entry = getattr(module, name, None)
        except Exception as error:
            raise PairingError(
                f"{boundary}: {type(module).__name__}.{name} cannot be read ({type(error).__name__}: {error}); pair "
                "another module"
            ) from error
        if callable(entry):
            found[name] = entry
    called = _in_class(type(module), CALL)
    if called is not _ABSENT:
        found[CALL] = _bound(called, module, type(module))
    if not found:
        raise PairingError(
            f"{boundary}: {type(module).__name__} has none of {', '.join(ENTRY_POINTS)} or {CALL}; pair a module that "
            "is called"
        )
    return found


class Wrapping:
    """The entry points that are replaced now. `undo` restores all of them, the last one first."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._by_class: dict[tuple[type, str], _ForOneInstance] = {}

    def put(self, module: Any, name: str, listener: Listener, boundary: str) -> None:
        """Let `listener` be what a caller of this entry point of this object reaches."""
        in_class = _in_class(type(module), name)
        attributes = getattr(module, "__dict__", None)
        if name != CALL and isinstance(in_class, MemberDescriptorType):
            self._put_into_slot(module, in_class, listener)
        elif name != CALL and isinstance(attributes, dict) and not hasattr(type(in_class), "__set__"):
            self._put_into_dict(attributes, name, listener)
        else:
            self._put_into_class(module, name, listener, boundary)

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()
        self._by_class.clear()

    def _put_into_dict(self, attributes: dict[str, Any], name: str, listener: Listener) -> None:
        """Past any `__setattr__` of the object's own: a frozen dataclass refuses, torch's Module sorts into tables."""
        before = attributes.get(name, _ABSENT)
        attributes[name] = listener
        self._undo.append(lambda: _put_back(attributes, name, before))

    def _put_into_slot(self, module: Any, slot: MemberDescriptorType, listener: Listener) -> None:
        before = slot.__get__(module, type(module))
        slot.__set__(module, listener)
        self._undo.append(lambda: slot.__set__(module, before))

    def _put_into_class(self, module: Any, name: str, listener: Listener, boundary: str) -> None:
        """Python looks `__call__` up on the class, and objects without a dictionary have no other place."""
        own = type(module)
        if (own, name) not in self._by_class:
            before = vars(own).get(name, _ABSENT)
            chooser = _ForOneInstance(_in_class(own, name))
            try:
                setattr(own, name, chooser)
            except TypeError:  # a type written in C
                raise PairingError(
                    f"{boundary}: a {own.__name__} cannot be listened to; pair the object that holds it"
                ) from None
            self._by_class[own, name] = chooser
            self._undo.append(lambda: delattr(own, name) if before is _ABSENT else setattr(own, name, before))
        self._by_class[own, name].listeners[id(module)] = listener


class _ForOneInstance:
    """A class attribute that gives each wrapped object its listener, and every other object what was there before."""

    def __init__(self, before: Any) -> None:
        self.before = before
        self.listeners: dict[int, Listener] = {}

    def __get__(self, instance: Any, owner: type) -> Any:
        listener = self.listeners.get(id(instance))
        return listener if listener is not None else _bound(self.before, instance, owner)


def _in_class(own: type, name: str) -> Any:
    """What a class or a base of it defines; of the metaclass, by which every class can be called, nothing."""
    return next((vars(base)[name] for base in own.__mro__ if name in vars(base)), _ABSENT)


def _bound(attribute: Any, instance: Any, owner: type) -> Any:
    bind = getattr(type(attribute), "__get__", None)
    return attribute if bind is None else bind(attribute, instance, owner)


def _put_back(attributes: dict[str, Any], name: str, before: Any) -> None:
    if before is _ABSENT:
        del attributes[name]
    else:
        attributes[name] = before
