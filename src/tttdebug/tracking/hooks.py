# SPDX-License-Identifier: Apache-2.0
"""Listening to both sides: forward hooks on torch modules, wrapped entry points on TTNN module instances.

TTNN models have no hook system. They call `prefill_forward`, `decode_forward` or `forward` on plain objects, sometimes
bound to the instance, so the instance is what gets wrapped; everything is put back when the block ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PairingError

if TYPE_CHECKING:
    import torch
    from torch import nn

ENTRY_POINTS = ("forward", "prefill_forward", "decode_forward")
_ABSENT = object()


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
    """Keeps the output of every paired torch module of one call: `with ReferenceTap(modules) as tap: model(…)`."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._captured: dict[str, Captured] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> ReferenceTap:
        for boundary, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._hook(boundary)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def outputs(self) -> dict[str, torch.Tensor]:
        """The tensor each boundary gave, in the order of execution."""
        return {boundary: captured.unchanged(boundary) for boundary, captured in self._captured.items()}

    def _hook(self, boundary: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if boundary in self._captured:
                raise PairingError(
                    f"{boundary}: the reference calls this module more than once in a forward; pair a module "
                    "that it calls once"
                )
            tensor = first_tensor(output)
            self._captured[boundary] = Captured(tensor, tensor._version)

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


class PortTap:
    """Tells of every output of the paired TTNN modules while the block lasts.

    `on_output(boundary, output, seconds)` is called at once after each call, before the caller can free the output;
    nested entry points of one module count once, and `seconds` leaves out the time spent in `on_output`. `inside` are
    the boundaries whose modules are running, the innermost last; `at_work` says that `on_output` runs, whose ops are
    not the port's.
    """

    def __init__(self, modules: Mapping[str, Any], on_output: Callable[[str, Any, float], None]) -> None:
        self._modules = modules
        self._on_output = on_output
        self._undo: list[Callable[[], None]] = []
        self._listening_seconds = 0.0
        self.inside: list[str] = []
        self.at_work = False

    def leave_out(self, seconds: float) -> None:
        """Count time that a listener spent while a module ran as not the module's."""
        self._listening_seconds += seconds

    def __enter__(self) -> PortTap:
        try:
            for boundary, module in self._modules.items():
                self._wrap(boundary, module)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _wrap(self, boundary: str, module: Any) -> None:
        names = [name for name in ENTRY_POINTS if callable(getattr(module, name, None))]
        inside = [0]
        for name in names:
            self._set(module, name, self._listener(boundary, getattr(module, name), inside))
        if not names and callable(module):
            self._wrap_call(boundary, module, inside)
        elif not names:
            raise PairingError(
                f"{boundary}: {type(module).__name__} has none of {', '.join(ENTRY_POINTS)} or __call__; pair "
                "a module that is called"
            )

    def _set(self, module: Any, name: str, listener: Any) -> None:
        before = vars(module).get(name, _ABSENT)
        setattr(module, name, listener)
        self._undo.append(lambda: delattr(module, name) if before is _ABSENT else setattr(module, name, before))

    def _wrap_call(self, boundary: str, module: Any, inside: list[int]) -> None:
        """Python looks `__call__` up on the class, so the instance gets a class of its own for the while."""
        own = type(module)
        listener = self._listener(boundary, own.__call__.__get__(module), inside)
        module.__class__ = type(
            own.__name__,
            (own,),
            {"__call__": lambda _self, *args, **kwargs: listener(*args, **kwargs), "__slots__": ()},
        )
        self._undo.append(lambda: setattr(module, "__class__", own))

    def _listener(self, boundary: str, entry: Callable[..., Any], inside: list[int]) -> Callable[..., Any]:
        @wraps(entry)
        def listen(*args: Any, **kwargs: Any) -> Any:
            listened, started = self._listening_seconds, time.perf_counter()
            inside[0] += 1
            self.inside.append(boundary)
            try:
                output = entry(*args, **kwargs)
            finally:
                self.inside.pop()
                inside[0] -= 1
            if inside[0] == 0:
                ended = time.perf_counter()
                self.at_work = True
                try:
                    self._on_output(boundary, output, ended - started - (self._listening_seconds - listened))
                finally:
                    self.at_work = False
                self._listening_seconds += time.perf_counter() - ended
            return output

        return listen
