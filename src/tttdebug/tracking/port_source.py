# SPDX-License-Identifier: Apache-2.0
"""`FILE_OR_MODULE:build`: a user's own code that builds a port, and how that port is driven."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tttdebug.errors import PortError

DRIVERS = ("prefill", "decode")


@dataclass(frozen=True)
class PortSource:
    """Where a port comes from. `build(reference_model, device)` gives it; `prefill` and `decode` stand beside `build`.

    `prefill(port, token_ids_BS)` and `decode(port, token_ids_B, positions_B)` give logits; None where there is none.
    """

    spec: str
    build: Callable[[Any, Any], Any]
    prefill: Callable[[Any, Any], Any] | None
    decode: Callable[[Any, Any, Any], Any] | None

    def drivers_of(self, port: Any) -> tuple[Callable[[Any, Any], Any] | None, Callable[[Any, Any, Any], Any] | None]:
        """`prefill` and `decode` for what `build` gave, which take the port first; its own methods come first."""
        own_prefill, own_decode = (getattr(port, name, None) for name in DRIVERS)
        prefill = (lambda _port, token_ids: own_prefill(token_ids)) if callable(own_prefill) else self.prefill
        decode = (
            (lambda _port, token_ids, positions: own_decode(token_ids, positions))
            if callable(own_decode)
            else self.decode
        )
        return prefill, decode


def load_port_builder(spec: str) -> PortSource:
    """The functions that `FILE.py:NAME` or `PACKAGE.MODULE:NAME` names; without `:NAME` it is `build`.

    The code is imported here, so whatever `import ttnn` should find has to be in place before.

    Raises PortError when there is no such file, module or name; an exception of the user's code while it is imported
    is passed on within one that names the file.
    """
    origin, _, name = spec.rpartition(":") if ":" in spec else (spec, "", "build")
    if not origin or not name:
        raise PortError(f"--port {spec!r}: give FILE.py:NAME or PACKAGE.MODULE:NAME, e.g. my_model.py:build")
    module = _from_file(Path(origin)) if _is_file(origin) else _from_name(origin)
    build = getattr(module, name, None)
    if not callable(build):
        offered = ", ".join(sorted(key for key, value in vars(module).items() if _is_own_function(module, value)))
        raise PortError(f"--port {spec}: {origin} has no function {name!r}; it defines {offered or 'no function'}")
    prefill, decode = (_driver(module, name, spec) for name in DRIVERS)
    return PortSource(spec, build, prefill, decode)


def _is_file(origin: str) -> bool:
    return origin.endswith(".py") or "/" in origin or Path(origin).is_file()


def _from_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise PortError(f"--port: there is no file {path}; give FILE.py:NAME or PACKAGE.MODULE:NAME")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PortError(f"--port: {path} is not a Python file; give FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:  # a port's files import their neighbours
        sys.path.insert(0, str(path.parent))
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses and pickles look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if before is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = before
        raise PortError(f"--port: {path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise PortError(
                f"--port: there is no module {name!r} on Python's path; give FILE.py:NAME, or install its package"
            ) from error
        raise PortError(f"--port: {name} cannot be imported: {error}") from error
    except Exception as error:
        raise PortError(f"--port: {name} cannot be imported: {type(error).__name__}: {error}") from error


def _driver(module: ModuleType, name: str, spec: str) -> Callable[..., Any] | None:
    found = getattr(module, name, None)
    if found is not None and not callable(found):
        raise PortError(
            f"--port {spec}: {name} beside build is a {type(found).__name__}; make it a function or remove it"
        )
    return found


def _is_own_function(module: ModuleType, value: Any) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__
