# SPDX-License-Identifier: Apache-2.0
"""A user's own port in a job: the ttnn that its file imports, its building, and whose an exception is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PortError, PortRaisedError, TttdebugError
from tttdebug.tracking.driving import has_slots
from tttdebug.tracking.port_source import load_port_builder

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BuiltPort:
    """A port, and the functions that drive it; None for one that is driven by its own methods, as ours are."""

    port: Any
    prefill: Callable[..., Any] | None = None
    decode: Callable[..., Any] | None = None


@contextmanager
def imported_ttnn(device: str, engine: str) -> Iterator[None]:
    """Within the block `import ttnn` finds the emulator where `device` is an emulated one, else the real package."""
    from tttdebug.emulator.drop_in import install

    with install(engine) if device.partition(":")[0] == "emulated" else nullcontext():
        yield


def build_port(source: str, reference_model: nn.Module, device: Any) -> BuiltPort:
    """Import `FILE_OR_MODULE:build`, call `build(reference_model, device)`, and find its `prefill` and `decode`.

    Raises PortError where there is no such thing, PortRaisedError for an exception of `build`.
    """
    here = str(Path.cwd())
    if here not in sys.path:  # as for `python -m`: a module in the current folder can be named
        sys.path.insert(0, here)
    found = load_port_builder(source)
    with own_exceptions(f"{source} raised while it built the port"):
        port = found.build(reference_model, device)
    if port is None:
        raise PortError(f"--port {source} returned None; let it return the port")
    return BuiltPort(port) if has_slots(port) else BuiltPort(port, *found.drivers_of(port))


@contextmanager
def own_exceptions(what: str) -> Iterator[None]:
    """An exception of the user's code leaves the block as the cause of a PortRaisedError that says `what` happened."""
    try:
        yield
    except TttdebugError:
        raise
    except Exception as error:
        raise PortRaisedError(f"{what}: {type(error).__name__}: {error}") from error
