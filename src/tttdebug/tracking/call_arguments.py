# SPDX-License-Identifier: Apache-2.0
"""What a module is told about the call it is in: phase, user, positions, page table, read from its arguments."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tttdebug.backends import is_device_tensor, to_numpy, unreadable

_PHASES = ("prefill", "decode")
# the names that TT-Transformers' modules and their relatives give the same thing
_NAMES = {
    "mode": ("mode",),
    "user": ("user_id", "user"),
    "positions": ("current_pos", "cur_pos", "cur_pos_tensor", "positions", "position_idxs", "start_pos"),
    "page_table": ("page_table", "chunk_page_table"),
    "chunk_start": ("chunk_start_idx",),
    "batch_size": ("batch_size",),
    "rotary": ("rot_mats",),
}


@dataclass(frozen=True)
class CallArguments:
    """The call that one module is in, as far as its arguments say; None for what they do not say.

    `phase` is "prefill" or "decode" by the name of the entry point or by `mode`, "" when neither says. `page_table` has
    a row of blocks a user, `rotary` the shapes of the rotary tables. `within` names the watched modules that this call
    is inside of, the outermost first.
    """

    entry: str
    phase: str = ""
    user: int | None = None
    positions: tuple[int, ...] | None = None
    page_table: tuple[tuple[int, ...], ...] | None = None
    chunk_start: int | None = None
    batch_size: int | None = None
    rotary: tuple[tuple[int, ...], ...] | None = None
    within: tuple[str, ...] = ()


class ArgumentReader:
    """Reads the arguments of one entry point. What it looks for is settled once, not in every call."""

    def __init__(self, name: str, entry: Callable[..., Any]) -> None:
        self._entry = name
        self._phase = next((phase for phase in _PHASES if name.startswith(phase)), "")
        parameters = _parameters(entry)
        order = list(parameters)
        known = {meaning: [name for name in names if name in parameters] for meaning, names in _NAMES.items()}
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        self._sought = {
            meaning: tuple(
                (name, order.index(name) if name in parameters else None, _default(parameters, name))
                for name in (names if open_ended else known[meaning])
            )
            for meaning, names in _NAMES.items()
            if open_ended or known[meaning]
        }

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any], within: tuple[str, ...]) -> CallArguments:
        """Before the call: afterwards its tensors may be freed."""
        given = {meaning: self._value(meaning, args, kwargs) for meaning in self._sought}
        page_table = _integers(given.get("page_table"))
        positions = _integers(given.get("positions"))
        return CallArguments(
            entry=self._entry,
            phase=self._phase or _phase(given.get("mode")),
            user=_integer(given.get("user")),
            positions=None if positions is None else tuple(_flat(positions)),
            page_table=_rows(page_table),
            chunk_start=_integer(given.get("chunk_start")),
            batch_size=_integer(given.get("batch_size")),
            rotary=_shapes(given.get("rotary")),
            within=within,
        )

    def _value(self, meaning: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        for name, place, default in self._sought[meaning]:
            value = kwargs.get(name, args[place] if place is not None and place < len(args) else default)
            if value is not None:
                return value
        return None


def _parameters(entry: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(entry).parameters
    except (TypeError, ValueError):  # a function written in C need not say what it takes
        return {}


def _default(parameters: Mapping[str, inspect.Parameter], name: str) -> Any:
    default = parameters[name].default if name in parameters else None
    return None if default is inspect.Parameter.empty else default


def _phase(mode: Any) -> str:
    """Of a string, or of an enumeration as TT-Transformers has one."""
    said = str(getattr(mode, "value", mode)).lower() if mode is not None else ""
    return said if said in _PHASES else ""


def _integer(value: Any) -> int | None:
    integers = _integers(value)
    flat = [] if integers is None else list(_flat(integers))
    return flat[0] if len(flat) == 1 else None


def _integers(value: Any) -> Any:
    """An integer, or nested lists of them, out of a number, a sequence or a tensor that can still be read.

    Needs no torch, which an environment of ttnn may lack: what is no torch tensor without it is none.
    """
    torch = sys.modules.get("torch")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if is_device_tensor(value):
        values = None if unreadable(value) else to_numpy(value)
        return None if values is None or values.dtype.kind not in "iu" else values.tolist()
    if torch is not None and isinstance(value, torch.Tensor):
        return None if value.is_floating_point() else value.tolist()
    if isinstance(value, (list, tuple)) and all(isinstance(part, int) for part in value):
        return list(value)
    return None


def _flat(integers: Any) -> list[int]:
    return [integers] if isinstance(integers, int) else [number for part in integers for number in _flat(part)]


def _rows(integers: Any) -> tuple[tuple[int, ...], ...] | None:
    if not isinstance(integers, list):
        return None
    return tuple(tuple(_flat(row)) for row in integers)


def _shapes(tables: Any) -> tuple[tuple[int, ...], ...] | None:
    parts = tables if isinstance(tables, (list, tuple)) else () if tables is None else (tables,)
    return tuple(tuple(part.shape) for part in parts if hasattr(part, "shape")) or None
