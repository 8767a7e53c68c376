# SPDX-License-Identifier: Apache-2.0
"""A program: the ttnn ops of one call in their order, and the tensors that they begin with. Nothing here runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Role = Literal["input", "weight", "cache", "other"]


@dataclass(frozen=True)
class Value:
    """A tensor of a program, in the place of the tensor itself among an op's arguments."""

    number: int


class _Device:
    """The device, in its place among an op's arguments."""


DEVICE = _Device()


@dataclass(frozen=True, eq=False)
class Leaf:
    """A tensor that was there before the program: its values as the device held them, and how it lay there.

    `dtype` and `layout` are ttnn's names (`bfloat8_b`, `TILE`); `memory_config` is None of a tensor on the host.
    """

    name: str
    role: Role
    values: torch.Tensor
    dtype: str
    layout: str
    memory_config: Any = None


@dataclass(frozen=True, eq=False)
class Op:
    """One call of an op. `outputs` numbers the tensors that it gave, None for what is no tensor on the device; an op
    that writes into its argument may give that one's number again. `several` says that it gave a tuple or a list.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[int | None, ...]
    several: bool = False

    @property
    def reads(self) -> set[int]:
        """The numbers of all tensors among its arguments."""
        return {value.number for value in values_in((self.args, dict(self.kwargs)))}

    @property
    def writes(self) -> set[int]:
        """The numbers of the arguments that it writes into."""
        given = list(values_in(self.args))
        named = {name: value for name, value in self.kwargs.items() if isinstance(value, Value)}
        written = [value for name, value in named.items() if name in _OUTPUTS]
        if self.name.endswith(_WRITES_TARGET):
            written += given[1:2] + [named[name] for name in ("output_tensor", "dst") if name in named]
        elif "fused_update_cache" in self.name:
            written += given[0:3:2] + [value for name, value in named.items() if name.startswith("cache")]
        elif self.name.endswith(_WRITES_FIRST) or "in_place" in self.name:
            written += given[:1] or list(named.values())[:1]
        return {value.number for value in written}


_OUTPUTS = (
    *("output_tensor", "optional_output_tensor", "preallocated_output", "optional_tensor", "out", "output"),
    *("persistent_output_buffer", "persistent_output_tensor"),
)
_WRITES_TARGET = ("ttnn.copy", "ttnn.assign")
_WRITES_FIRST = ("_cache", "_")


@dataclass(frozen=True, eq=False)
class Program:
    """The leaves by their numbers, the ops in their order, and the number of the tensor that they lead to."""

    leaves: Mapping[int, Leaf]
    ops: tuple[Op, ...]
    output: int

    def without_idle_ops(self) -> Program:
        """The same without the ops and leaves that the output does not depend on."""
        wanted, kept = {self.output}, list[Op]()
        for op in reversed(self.ops):
            if wanted.intersection(op.outputs) or wanted & op.writes:
                kept.append(op)
                wanted |= op.reads
        leaves = {number: leaf for number, leaf in self.leaves.items() if number in wanted}
        return Program(leaves, tuple(reversed(kept)), self.output)

    def with_leaves(self, changed: Mapping[int, Leaf]) -> Program:
        """The same with other leaves at some numbers."""
        return replace(self, leaves={**self.leaves, **changed})

    @property
    def elements(self) -> int:
        """How many numbers its leaves hold."""
        return sum(leaf.values.numel() for leaf in self.leaves.values())


def values_in(argument: Any) -> Iterator[Value]:
    """Every tensor in an argument, those in lists and mappings too."""
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, Mapping):
        for item in argument.values():
            yield from values_in(item)
    elif type(argument) in (list, tuple):
        for item in argument:
            yield from values_in(item)


def mapped(argument: Any, change: Callable[[Any], Any]) -> Any:
    """An argument with every part of it that is no list, tuple or mapping changed."""
    if type(argument) in (list, tuple):
        return type(argument)(mapped(item, change) for item in argument)
    if type(argument) is dict:
        return {name: mapped(item, change) for name, item in argument.items()}
    return change(argument)
