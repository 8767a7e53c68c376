# SPDX-License-Identifier: Apache-2.0
"""The names of the real ttnn package, and what stands in for those that are not emulated.

A name that the real package has can always be taken, so that a program's imports work; using it raises.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from tttdebug.emulator.errors import EmulatorError, unknown_name


class NotEmulatedError(EmulatorError):
    """The real ttnn has this, the emulator does not."""


@lru_cache(maxsize=1)
def real_names() -> dict[str, str]:
    """Every public name of ttnn, dotted ("transformer.concatenate_heads"), and its kind: operation, function, …"""
    table = json.loads(Path(__file__).with_name("real_names.json").read_text())
    kinds = ("operation", "function", "class", "value")
    return {name: kind for kind in kinds for name in table[kind].split()}


def real_version() -> str:
    """The version of ttnn that the names and signatures are from."""
    return json.loads(Path(__file__).with_name("real_names.json").read_text())["ttnn"]


@lru_cache(maxsize=1)
def real_modules() -> frozenset[str]:
    """The parts of ttnn, e.g. "transformer"."""
    return frozenset(name.split(".")[0] for name in real_names() if "." in name)


def _refuse(name: str, emulated: Iterable[str]) -> NotEmulatedError:
    near = get_close_matches(name.rpartition(".")[2], list(emulated), n=3, cutoff=0.6)
    hint = f"; nearest that are: {', '.join(near)}" if near else ""
    return NotEmulatedError(f"ttnn.{name} is not emulated{hint}; docs/emulator-ops.md lists what is")


class _Missing:
    """A function or value of ttnn that is not emulated."""

    def __init__(self, name: str, emulated: Callable[[], Iterable[str]]) -> None:
        self.__name__ = name.rpartition(".")[2]
        self.__qualname__ = self.__name__
        self.__doc__ = f"ttnn.{name}, which is not emulated."
        self._name, self._emulated = name, emulated

    def __call__(self, *args: object, **kwargs: object) -> Any:
        raise _refuse(self._name, self._emulated())

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)  # what Python itself asks every object for
        raise _refuse(self._name, self._emulated())

    def __repr__(self) -> str:
        return f"<ttnn.{self._name}, not emulated>"


class _MissingClass(type):
    """The kind of a class of ttnn that is not emulated: it can be named, in annotations too, but not used."""

    def __call__(cls, *args: object, **kwargs: object) -> Any:
        raise _refuse(cls._name, cls._emulated())

    def __getattr__(cls, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise _refuse(cls._name, cls._emulated())

    def __repr__(cls) -> str:
        return f"<class ttnn.{cls._name}, not emulated>"


@lru_cache(maxsize=4096)
def stand_in(name: str, emulated: Callable[[], Iterable[str]]) -> Any:
    """What `name` gives: an object, or a class, that raises NotEmulatedError when it is used.

    Raises UnknownNameError when ttnn has no such name. `emulated` gives the names that could have been meant.
    """
    kind = real_names().get(name)
    if kind is None:
        namespace, _, last = f"ttnn.{name}".rpartition(".")
        raise unknown_name(namespace, last, emulated())
    if kind == "class":
        return _MissingClass(name.rpartition(".")[2], (), {"_name": name, "_emulated": staticmethod(emulated)})
    return _Missing(name, emulated)
