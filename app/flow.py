# SPDX-License-Identifier: Apache-2.0
"""A layer laid out as a drawing: its parts in the order of the data, what is added to what, and what lies inside."""

# Units: a box of a part is 1 wide and 1 high.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tttdebug.tracking.record import Record
from tttdebug.tracking.wiring import INPUT, Applied, Step, Sum, Term, Value, parts_of, steps_of

_GAP, _NODE = 0.25, 0.4  # between two boxes; the width of a name or of a sum
_INSIDE, _BETWEEN_ROWS = 0.55, 0.3
SUM = "⊕"
_IN_A_ROW = 4  # parts whose wiring is not known


@dataclass(frozen=True)
class Node:
    """Something at the centre (`x`, `y`): a part with its boundary, a small one inside of it, or just a `label`.

    `read_by` is the boundary of the part that a value goes into.
    """

    label: str
    x: float
    y: float
    width: float
    height: float
    boundary: str = ""
    small: bool = False
    read_by: str = ""


@dataclass(frozen=True)
class Line:
    """From one point to another, with an arrow's head at its end or without."""

    x: float
    y: float
    to_x: float
    to_y: float
    head: bool = True


@dataclass
class Flow:
    """A drawing of one layer. `known` is whether the run says how its parts are wired."""

    known: bool
    nodes: list[Node] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    @property
    def width(self) -> float:
        return max(node.x + node.width / 2 for node in self.nodes)

    @property
    def height(self) -> float:
        return max(node.y + node.height / 2 for node in self.nodes)


def flow_of(records: Sequence[Record], formula: str) -> Flow:
    """The drawing of the boundaries of one layer in one call, in the order of execution.

    Where the formula is missing, or does not fit the boundaries, they stand in the order of execution, without sums.
    """
    inside = inside_of(records)
    boundaries = {record.boundary.rpartition(".")[2]: record.boundary for record in records}
    children = {
        kind: [boundary for boundary, parent in inside.items() if parent == boundaries[kind]] for kind in boundaries
    }
    outer = _around_all(records)
    steps = steps_of(formula)
    wired = [part for step in steps for part in parts_of(step.term)]
    alone = {kind for kind, boundary in boundaries.items() if boundary not in inside and boundary != outer}
    if steps and alone <= set(wired) and all(_is_simple(step.term) for step in steps):
        return _Drawing(boundaries, children).of_steps(steps, outer)
    shown = [kind for kind, boundary in boundaries.items() if boundary not in inside]
    return _Drawing(boundaries, children).in_order(shown)


def inside_of(records: Sequence[Record]) -> dict[str, str]:
    """The boundary that each one lies inside of, by the port's paths: a cache in its attention, a router in its mlp."""
    around_all = _around_all(records)
    inside = {}
    for record in records:
        around = [
            other
            for other in records
            if other.module and other.boundary != around_all and record.module.startswith(f"{other.module}.")
        ]
        if around:
            inside[record.boundary] = max(around, key=lambda other: len(other.module)).boundary
    return inside


def _around_all(records: Sequence[Record]) -> str:
    """The boundary of the layer itself; "" where none is."""
    for record in records:
        others = [other for other in records if other.boundary != record.boundary]
        if record.module and others and all(other.module.startswith(f"{record.module}.") for other in others):
            return record.boundary
    return ""


def _is_simple(term: Term) -> bool:
    """Whether it is a chain of parts after a value, or after a sum of such chains."""
    start, _ = _chain(term)
    return isinstance(start, Value) or all(isinstance(_chain(each)[0], Value) for each in start.terms)


def _chain(term: Term) -> tuple[Value | Sum, list[str]]:
    """What a term starts from, and the parts that are applied to it one after another."""
    parts: list[str] = []
    while isinstance(term, Applied):
        parts.insert(0, term.part)
        term = term.to
    return term, parts


class _Drawing:
    """A flow while it is being laid out, row by row from the top."""

    def __init__(self, boundaries: Mapping[str, str], children: Mapping[str, Sequence[str]]) -> None:
        self._boundaries, self._children = boundaries, children
        self._flow = Flow(known=True)
        self._top = 0.0

    def of_steps(self, steps: Sequence[Step], outer: str) -> Flow:
        for step in steps:
            start, after = _chain(step.term)
            branches = start.terms if isinstance(start, Sum) else (start,)
            x, y = self._branches([_chain(branch) for branch in branches], after, is_sum=isinstance(start, Sum))
            x = self._parts(x, y, after)
            if step.name:
                self._end(x, y, Node(step.name, x + _GAP + _NODE / 2, y, _NODE, _NODE))
            elif outer:
                self._end(x, y, self._box(outer.rpartition(".")[2], x + _GAP + 0.5, y))
        return self._flow

    def in_order(self, kinds: Sequence[str]) -> Flow:
        self._flow.known = len(kinds) < 2
        for first in range(0, len(kinds), _IN_A_ROW):
            row = kinds[first : first + _IN_A_ROW]
            y = self._next_row(row)
            self._parts(-_GAP, y, row)
        return self._flow

    def _branches(
        self, branches: Sequence[tuple[Value | Sum, list[str]]], after: Sequence[str], *, is_sum: bool
    ) -> tuple[float, float]:
        """Each branch in a row of its own, their sum behind the longest; where it goes on, with the parts `after`."""
        through = [(start.name, parts) for start, parts in branches if isinstance(start, Value) and parts]
        added = [start.name for start, parts in branches if isinstance(start, Value) and not parts]
        through = through or [(added.pop(0), [])]
        ends = []
        for number, (name, parts) in enumerate(through):
            y = self._next_row([*parts, *after] if number == 0 else parts)
            reader = self._reader(parts if parts or is_sum else after)
            label = "input" if name == INPUT else name
            self._flow.nodes.append(Node(label, _NODE / 2, y, _NODE, _NODE, read_by=reader))
            ends.append((self._parts(_NODE, y, parts), y))
        x, y = max(end for end, _ in ends), ends[0][1]
        if not is_sum:
            return x, y
        plus = x + _GAP + _NODE / 2
        self._flow.nodes.append(Node(SUM, plus, y, _NODE, _NODE, read_by=self._reader(after)))
        for end, row in ends:
            if row == y:
                self._flow.lines.append(Line(end, y, plus - _NODE / 2, y))
            else:
                self._flow.lines += [Line(end, row, plus, row, head=False), Line(plus, row, plus, y + _NODE / 2)]
        for name in added:
            self._add(name, through[0][0], plus, y)
        return plus + _NODE / 2, y

    def _add(self, name: str, start: str, plus: float, y: float) -> None:
        """What goes around the branch: a line above it, from where the branch starts."""
        above = y - 0.5 - _BETWEEN_ROWS / 2
        if name == start:
            self._flow.lines.append(Line(_NODE / 2, y - _NODE / 2, _NODE / 2, above, head=False))
            self._flow.lines.append(Line(_NODE / 2, above, plus, above, head=False))
        else:
            self._flow.nodes.append(Node("input" if name == INPUT else name, plus, above, _NODE, 0.2))
        self._flow.lines.append(Line(plus, above, plus, y - _NODE / 2))

    def _parts(self, x: float, y: float, parts: Sequence[str]) -> float:
        """Parts one after another, from the right edge `x` of what is before them; the right edge of the last."""
        for part in parts:
            left = x + _GAP
            if x > 0:
                self._flow.lines.append(Line(x, y, left, y))
            self._flow.nodes.append(self._box(part, left + 0.5, y))
            for place, child in enumerate(children := self._children.get(part, ())):
                width = 1 / len(children)
                middle = left + width * (place + 0.5)
                name = child.rpartition(".")[2]
                self._flow.nodes.append(
                    Node(name, middle, y + 0.5 + _INSIDE / 2, width - 0.03, _INSIDE - 0.06, child, small=True)
                )
            x = left + 1
        return x

    def _end(self, x: float, y: float, node: Node) -> None:
        self._flow.nodes.append(node)
        self._flow.lines.append(Line(x, y, node.x - node.width / 2, y))

    def _box(self, kind: str, x: float, y: float) -> Node:
        return Node(kind, x, y, 1, 1, self._boundaries.get(kind, ""))

    def _reader(self, parts: Sequence[str]) -> str:
        return self._boundaries.get(parts[0], "") if parts else ""

    def _next_row(self, parts: Sequence[str]) -> float:
        """The middle of a new row that has room for what lies inside its parts."""
        y = self._top + _BETWEEN_ROWS + 0.5
        self._top = y + 0.5 + (_INSIDE if any(self._children.get(part) for part in parts) else 0.0)
        return y
