# SPDX-License-Identifier: Apache-2.0
"""How the parts of a layer are wired, as a formula: `h = x + self_attn(input_norm(x)); h + mlp(post_attn_norm(h))`."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tttdebug.tracking.pairing import PairedModules

INPUT = "x"
"""What goes into a layer. A step without a name gives what comes out of it."""


@dataclass(frozen=True)
class Value:
    """What goes into the layer, or what an earlier step gave."""

    name: str


@dataclass(frozen=True)
class Applied:
    """What a part of the layer gives."""

    part: str
    to: Term


@dataclass(frozen=True)
class Sum:
    terms: tuple[Term, ...]


Term: TypeAlias = "Value | Applied | Sum"


@dataclass(frozen=True)
class Step:
    """One line of a formula; the last one has no name."""

    name: str
    term: Term


def wiring_of(paired: Sequence[PairedModules]) -> str:
    """The formula of the layers in the names of their boundaries; "" where no layer says it, or not all say the same.

    A module of a port says its own with an attribute `wiring`, in the names of its parts.
    """
    boundary_at = {modules.pair.port: modules.pair.boundary for modules in paired}
    formulas = {
        _in_boundaries(formula, modules.pair.port, boundary_at)
        for modules in paired
        if isinstance(formula := getattr(modules.port, "wiring", None), str)
    }
    return formulas.pop() if len(formulas) == 1 else ""


def steps_of(formula: str) -> tuple[Step, ...]:
    """A formula, read. Empty where it is none: it came from a file."""
    try:
        lines = ast.parse(formula).body
        steps = tuple(map(_step, lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return steps if steps and [bool(step.name) for step in steps] == [True] * (len(steps) - 1) + [False] else ()


def parts_of(term: Term) -> list[str]:
    """The parts that a term applies, in the order of execution."""
    if isinstance(term, Applied):
        return [*parts_of(term.to), term.part]
    return [part for inner in term.terms for part in parts_of(inner)] if isinstance(term, Sum) else []


def _in_boundaries(formula: str, path: str, boundary_at: dict[str, str]) -> str:
    """The formula with each part under the name of its boundary, where it has one."""

    def renamed(match: re.Match[str]) -> str:
        boundary = boundary_at.get(f"{path}.{match[1]}")
        return f"{match[1] if boundary is None else boundary.rpartition('.')[2]}("

    return re.sub(r"(\w+)\(", renamed, formula)


def _step(line: ast.stmt) -> Step:
    if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
        return Step(line.targets[0].id, _term(line.value))
    if isinstance(line, ast.Expr):
        return Step("", _term(line.value))
    raise ValueError("no line of a formula")


def _term(read: ast.expr) -> Term:
    if isinstance(read, ast.Name):
        return Value(read.id)
    if isinstance(read, ast.Call) and isinstance(read.func, ast.Name) and len(read.args) == 1 and not read.keywords:
        return Applied(read.func.id, _term(read.args[0]))
    if isinstance(read, ast.BinOp) and isinstance(read.op, ast.Add):
        left, right = _term(read.left), _term(read.right)
        return Sum((*(left.terms if isinstance(left, Sum) else (left,)), right))
    raise ValueError("no term of a formula")
