# SPDX-License-Identifier: Apache-2.0
"""Listening to both sides: forward hooks on torch modules, wrapped entry points on TTNN module instances.

TTNN models have no hook system, so the instances are wrapped; everything is put back when the block ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PairingError
from tttdebug.tracking.call_arguments import ArgumentReader, CallArguments
from tttdebug.tracking.call_numbers import name_of_call
from tttdebug.tracking.instance_wrapping import Wrapping, entry_points
from tttdebug.tracking.output_elements import element_of

if TYPE_CHECKING:
    import torch
    from torch import nn


def at_same_object(modules: Mapping[str, Any]) -> list[tuple[Any, list[str]]]:
    """Each object once, with all boundaries it stands at, in their order."""
    found: dict[int, tuple[Any, list[str]]] = {}
    for boundary, module in modules.items():
        found.setdefault(id(module), (module, []))[1].append(boundary)
    return list(found.values())


@dataclass(frozen=True)
class Captured:
    """An output held by reference, with the version it had then: torch counts every in-place change of a tensor."""

    tensor: torch.Tensor
    version: int

    def unchanged(self, boundary: str) -> torch.Tensor:
        """The tensor.

        Raises PairingError when the model has since written into it, so that it is no longer the output.
        """
        if self.tensor._version != self.version:
            raise PairingError(
                f"{boundary}: the reference changed this output in place after the module returned it; pair "
                "another module"
            )
        return self.tensor


class ReferenceTap:
    """Keeps the output of every paired torch module of one call: `with ReferenceTap(modules) as tap: model(…)`.

    It hears the calls of its own thread only: another prompt may go through the same modules.
    """

    def __init__(self, modules: Mapping[str, nn.Module], elements: Mapping[str, int | str] | None = None) -> None:
        """`elements` says for a boundary which tensor of its module's output is meant, where it is not the first."""
        self._elements = elements or {}
        self._modules = [
            (module, [boundary for boundary in boundaries if self._elements.get(boundary) == element])
            for module, boundaries in at_same_object(modules)
            for element in dict.fromkeys(self._elements.get(boundary) for boundary in boundaries)
        ]
        self._adapters: dict[int, tuple[str, ...]] = {}  # which of the modules, and what of its output was taken
        self._captured: list[tuple[int, Captured]] = []  # which of the modules, and what it gave
        self._handles: list[Any] = []
        self._thread = 0

    def __enter__(self) -> ReferenceTap:
        self._thread = threading.get_ident()
        for place, (module, boundaries) in enumerate(self._modules):
            self._handles.append(module.register_forward_hook(self._hook(place, boundaries[0])))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def outputs(self) -> dict[str, torch.Tensor]:
        """The tensor each boundary gave, in the order of execution; see `name_of_call` for a module called again.

        A module that stands at several boundaries and was called once gives its output to all of them.
        """
        calls = [place for place, _ in self._captured]
        found, numbers = {}, dict.fromkeys(calls, 0)
        for place, captured in self._captured:
            boundaries = self._modules[place][1]
            if calls.count(place) > 1:
                boundaries = [name_of_call(boundaries, numbers[place])]
                numbers[place] += 1
            for boundary in boundaries:
                found[boundary] = captured.unchanged(boundary)
        return found

    def adapters(self) -> dict[str, tuple[str, ...]]:
        """For each boundary, which tensor of its module's output it is, where there were several."""
        return {
            boundary: self._adapters[place]
            for place, (_, boundaries) in enumerate(self._modules)
            for boundary in boundaries
            if self._adapters.get(place)
        }

    def _hook(self, place: int, boundary: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if threading.get_ident() != self._thread:
                return
            chosen, self._adapters[place] = element_of(output, self._elements.get(boundary), "reference")
            tensor = first_tensor(chosen)
            self._captured.append((place, Captured(tensor, tensor._version)))

        return keep


def first_tensor(output: Any) -> torch.Tensor:
    """The main tensor of a torch module's output: the tensor itself, or the first one in a tuple, list or ModelOutput.

    Raises PairingError when it holds none.
    """
    import torch

    if isinstance(output, torch.Tensor):
        return output
    for part in output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ():
        if isinstance(part, torch.Tensor):
            return part
    raise PairingError(
        f"a reference module returned {type(output).__name__} without a tensor; pair a module that returns one"
    )


@dataclass
class _Recording:
    """Whether taps record what they hear; how many blocks of `unrecorded` we are in."""

    off: int = 0


_recording = _Recording()


@contextmanager
def unrecorded() -> Iterator[None]:
    """No call within the block is recorded: a warm-up, or a capture, that a port's `prefill` makes on its own.

    with td.unrecorded():
        model.prefill_forward(x)  # compiles the kernels
    """
    _recording.off += 1
    try:
        yield
    finally:
        _recording.off -= 1


@dataclass
class _Watched:
    """One object under observation, by the first boundary it stands at."""

    boundary: str
    inside: bool = field(default=False)  # of one of its entry points, which may call another of its own


class PortTap:
    """Tells of every call of the paired TTNN modules while the block lasts.

    `on_call(boundary, arguments)` comes before each call, while its inputs can still be read, and
    `on_output(boundary, output, seconds)` at once after it, before the caller can free the output. Entry points that
    call another of the same object count once, and `seconds` leaves out the time spent in listening. An object that
    stands at several boundaries is told of under the first. A call that raises has no output. `inside` are the
    boundaries whose modules are running, the innermost last; `at_work` says that a listener is, whose ops are not the
    port's.
    """

    def __init__(
        self,
        modules: Mapping[str, Any],
        on_output: Callable[[str, Any, float], None],
        on_call: Callable[[str, CallArguments], None] | None = None,
    ) -> None:
        self._modules = at_same_object(modules)
        self._on_output = on_output
        self._on_call = on_call
        self._wrapping = Wrapping()
        self._listening_seconds = 0.0
        self.inside: list[str] = []
        self.at_work = False

    def leave_out(self, seconds: float) -> None:
        """Count time that a listener spent while a module ran as not the module's."""
        self._listening_seconds += seconds

    def __enter__(self) -> PortTap:
        try:
            for module, boundaries in self._modules:
                watched = _Watched(boundaries[0])
                for name, entry in entry_points(module, watched.boundary).items():
                    self._wrapping.put(module, name, self._listener(watched, name, entry), watched.boundary)
        except BaseException:
            self._wrapping.undo()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wrapping.undo()

    def _listener(self, watched: _Watched, name: str, entry: Callable[..., Any]) -> Callable[..., Any]:
        reader = ArgumentReader(name, entry)

        @wraps(entry)
        def listen(*args: Any, **kwargs: Any) -> Any:
            if watched.inside or _recording.off:
                return entry(*args, **kwargs)
            watched.inside = True
            try:
                return self._heard(watched, reader, entry, args, kwargs)
            finally:
                watched.inside = False

        return listen

    def _heard(
        self,
        watched: _Watched,
        reader: ArgumentReader,
        entry: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        boundary = watched.boundary
        if self._on_call is not None:
            with self._listener_at_work():
                self._on_call(boundary, reader.read(args, kwargs, tuple(self.inside)))
        listened, started = self._listening_seconds, time.perf_counter()
        self.inside.append(boundary)
        try:
            output = entry(*args, **kwargs)
        finally:
            self.inside.pop()
        ended = time.perf_counter()
        with self._listener_at_work():
            self._on_output(boundary, output, ended - started - (self._listening_seconds - listened))
        return output

    @contextmanager
    def _listener_at_work(self) -> Iterator[None]:
        """Time and ops that are not the port's."""
        started, self.at_work = time.perf_counter(), True
        try:
            yield
        finally:
            self.at_work = False
            self._listening_seconds += time.perf_counter() - started
