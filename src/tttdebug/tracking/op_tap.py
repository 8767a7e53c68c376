# SPDX-License-Identifier: Apache-2.0
"""Listening to ttnn's ops: the emulator as one of its listeners, the real package through the class of its operations.

Only ops that the program itself calls are told of; those that an op calls inside are its own business.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tttdebug.emulator.device import OpCall
    from tttdebug.emulator.device import OpRecord as EmulatedOp


@dataclass(frozen=True)
class HeardOp:
    """One op as it was called. `golden` is ttnn's own golden function, None where it has none."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    engine: str
    golden: Callable[..., Any] | None = None


Before = Callable[[HeardOp], Any]
"""Called before an op runs; what it gives is handed to `After`, and None says that the op does not matter."""
After = Callable[[Any, Any, object, float], None]
"""Called after it with what `Before` gave, the output, the plan that was chosen (or None) and the op's seconds."""


@contextmanager
def listening(before: Before, after: After) -> Iterator[None]:
    """Tell `before` and `after` of every op while the block lasts; what was changed is put back.

    Ops of the emulator and of the real package are heard, of whichever is loaded: a device is open before an op runs.
    """
    decorators = sys.modules.get("ttnn.decorators")
    operation = getattr(decorators, "FastOperation", None)  # the emulator as drop-in ttnn has no such module
    with ExitStack() as stack:
        if "tttdebug.emulator.device" in sys.modules:
            stack.enter_context(_to_emulator(before, after))
        if isinstance(operation, type):
            stack.enter_context(to_operation_class(operation, before, after))
        yield


@contextmanager
def _to_emulator(before: Before, after: After) -> Iterator[None]:
    from tttdebug.emulator.device import ANY_DEVICE

    pending: list[tuple[str, Any, float]] = []
    listener_at_work = False  # reading a tensor back is an op too

    def foretold(call: OpCall) -> None:
        nonlocal listener_at_work
        if listener_at_work:
            return
        pending.clear()  # an op that raised had no output
        listener_at_work = True
        try:
            token = before(HeardOp(call.name, call.args, call.kwargs, call.engine))
        finally:
            listener_at_work = False
        if token is not None:
            pending.append((call.name, token, time.perf_counter()))

    def observed(op: EmulatedOp) -> None:
        nonlocal listener_at_work
        if listener_at_work or not pending or pending[0][0] != op.name:
            return
        _, token, started = pending.pop()
        seconds = time.perf_counter() - started
        listener_at_work = True
        try:
            after(token, op.output, op.plan, seconds)
        finally:
            listener_at_work = False

    ANY_DEVICE.foretold.append(foretold)
    ANY_DEVICE.observers.append(observed)
    try:
        yield
    finally:
        ANY_DEVICE.foretold.remove(foretold)
        ANY_DEVICE.observers.remove(observed)


@contextmanager
def to_operation_class(operation: type[Any], before: Before, after: After) -> Iterator[None]:
    """Listen by wrapping `__call__` of the class that all ops of the real ttnn are instances of.

    It is fast mode's class, and slow mode is entered through it, so that either is heard, and so are `a + b` and names
    that were imported from ttnn earlier.
    """
    original = operation.__call__
    depth = 0

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        if depth:
            return original(self, *args, **kwargs)
        depth = 1
        try:
            heard = HeardOp(self.python_fully_qualified_name, args, kwargs, "ttnn", self.golden_function)
            token = before(heard)
            started = time.perf_counter()
            output = original(self, *args, **kwargs)
            if token is not None:
                after(token, output, None, time.perf_counter() - started)
            return output
        finally:
            depth = 0

    operation.__call__ = call
    try:
        yield
    finally:
        operation.__call__ = original


def is_torch_tensor(value: Any) -> bool:
    """Whether this is a torch tensor; a value that is none does not wait for torch."""
    return type(value).__module__.startswith("torch") and hasattr(value, "is_floating_point")
