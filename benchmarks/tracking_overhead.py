# SPDX-License-Identifier: Apache-2.0
"""What listening to a module costs a call, and how long finding a port's modules takes.

Run: python benchmarks/tracking_overhead.py

`off` is a call within `td.unrecorded()`, `heard` one whose listener does nothing, with and without its arguments read.
Every figure is the best of `--repeats` in one process, the ways taking turns: ratios say more than seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from tttdebug.tracking.discovery import discover
from tttdebug.tracking.hooks import PortTap, unrecorded

CALLS = 20_000
MODULES = 2_000


class Method:
    def decode_forward(self, x: int, current_pos: int, rot_mats: None = None, page_table: None = None) -> int:
        return x


class Bound(Method):
    """As RMSNorm1D: the forward is an attribute of the instance."""

    def __init__(self) -> None:
        self.decode_forward = partial(super().decode_forward, rot_mats=None)


class Called:
    def __call__(self, x: int, current_pos: int) -> int:
        return x


@dataclass(frozen=True, slots=True)
class Slotted:
    name: str = ""

    def decode_forward(self, x: int, current_pos: int) -> int:
        return x


class Block:
    """Four modules, as a decoder layer has them, in a list of them all."""

    def __init__(self) -> None:
        self.attention_norm, self.attention, self.ff_norm = Bound(), Method(), Bound()
        self.settings = {"fidelity": ["HiFi2"] * 8, "shapes": [(1, 1, 32, 64)] * 8}

    def decode_forward(self, x: int) -> int:
        return x


class Model:
    def __init__(self, modules: int) -> None:
        self.layers = [Block() for _ in range(modules // 4)]

    def decode_forward(self, x: int) -> int:
        return x


def calling(module: Any) -> Callable[[int, int], int]:
    """The way in that is timed, looked up anew as a model does in each call."""
    if isinstance(module, Called):
        return lambda x, pos: module(x, pos)
    return lambda x, pos: module.decode_forward(x, pos)


def seconds_per_call(module: Any, ways: tuple[AbstractContextManager[Any], ...]) -> float:
    call = calling(module)
    with ExitStack() as stack:
        for way in ways:
            stack.enter_context(way)
        started = time.perf_counter()
        for i in range(CALLS):
            call(i, i)
        return (time.perf_counter() - started) / CALLS


def say_nothing(*told: Any) -> None:
    """A listener."""


def ways_of(module: Any) -> dict[str, tuple[AbstractContextManager[Any], ...]]:
    return {
        "plain": (nullcontext(),),
        "off": (PortTap({"module": module}, say_nothing, say_nothing), unrecorded()),
        "heard": (PortTap({"module": module}, say_nothing),),
        "heard, arguments read": (PortTap({"module": module}, say_nothing, say_nothing),),
    }


def print_calls(console: Console, repeats: int) -> None:
    table = Table("module", "plain µs", "off µs", "heard µs", "with arguments µs", "off adds µs", "off / plain")
    for kind in (Method, Bound, Called, Slotted):
        best: dict[str, float] = {}
        for _ in range(repeats):
            module = kind()
            for name, ways in ways_of(module).items():
                best[name] = min(best.get(name, 1.0), seconds_per_call(module, ways))
        plain, off = best["plain"], best["off"]
        figures = [f"{seconds * 1e6:.2f}" for seconds in (*best.values(), off - plain)]
        table.add_row(kind.__name__, *figures, f"{off / plain:.1f}")
    console.print(table)


def print_discovery(console: Console, repeats: int) -> None:
    model = Model(MODULES)
    best = 1e9
    for _ in range(repeats):
        started = time.perf_counter()
        found = discover(model).modules
        best = min(best, time.perf_counter() - started)
    console.print(
        f"discovery: {len(found):,} modules in {best * 1e3:.0f} ms, {best / len(found) * 1e6:.0f} µs a module"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    console = Console()
    print_calls(console, repeats)
    print_discovery(console, repeats)


if __name__ == "__main__":
    main()
