# SPDX-License-Identifier: Apache-2.0
"""The records of a run column by column, for what looks at all of them at once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttdebug.errors import RunError
from tttdebug.testing.limits import RELATIVE_TO_FLOOR, Flags, Floats
from tttdebug.tracking.line_files import whole_lines
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Key
from tttdebug.tracking.run import ACCUMULATED, PARQUET, RECORDS
from tttdebug.tracking.run_files import refuse_links_that_lead_out
from tttdebug.tracking.sealed_table import sealed_table

_WORDS = ("boundary", "phase", "mode", "verdict", "note", "module", "reference_path")
_COUNTS = ("step", "user", "worst_token")
_ALWAYS = ("pcc", "rel_l2", "floor_rel_l2", "rmse", "worst_token_pcc")
_LINES_AT_ONCE = 128  # few enough for what is parsed to stay in the processor's cache


@dataclass(frozen=True)
class RecordColumns:
    """N records: `words` and `counts` are lists, `numbers` float64 arrays, each of length N.

    To the counts of a record come two of its shape, `tokens` and `elements`.
    """

    words: Mapping[str, Sequence[str]]
    counts: Mapping[str, Sequence[int]]
    numbers: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.words["boundary"])

    def key(self, row: int) -> Key:
        """What the record in that row is about."""
        return Key(
            self.words["boundary"][row],
            self.words["phase"][row],
            self.counts["step"][row],
            self.counts["user"][row],
            self.words["mode"][row],
        )

    @cached_property
    def keys(self) -> list[tuple[str, str, int, int, str]]:
        """The same of all rows, as tuples in the order of a key's fields."""
        words, counts = self.words, self.counts
        return list(zip(words["boundary"], words["phase"], counts["step"], counts["user"], words["mode"], strict=True))

    def coded(self, name: str) -> tuple[list[str], NDArray[np.int64]]:
        """The different words of a column in the order in which they come, and of each row the number of its own."""
        if name not in self._coded:
            numbers: dict[str, int] = {}
            codes = [numbers.setdefault(word, len(numbers)) for word in self.words[name]]
            self._coded[name] = list(numbers), np.array(codes, dtype=np.int64)
        return self._coded[name]

    @cached_property
    def _coded(self) -> dict[str, tuple[list[str], NDArray[np.int64]]]:
        return {}

    def where(self, name: str, holds: Callable[[str], bool]) -> Flags:
        """The rows in which `holds` is true of the word in that column; it is asked once of each different word."""
        words, codes = self.coded(name)
        return np.array([holds(word) for word in words], dtype=bool)[codes]

    def count(self, name: str) -> NDArray[np.int64]:
        """A column of counts as an array."""
        return np.array(self.counts[name], dtype=np.int64)

    def metric(self, name: str) -> Floats:
        """A column that limits can be set on; rel_l2_of_floor is 0 where nothing errs and no error is due."""
        if name != RELATIVE_TO_FLOOR:
            return self.numbers[name]
        rel_l2, floor = self.numbers["rel_l2"], self.numbers["floor_rel_l2"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((rel_l2 == 0) & (floor == 0), 0.0, rel_l2 / floor)


def read_columns(run: Path, manifest: Manifest, metrics: Iterable[str]) -> RecordColumns:
    """The records in folder `run` with the metrics named; of an unfinished run as many as there are.

    Raises RunError, naming file and line, where they are missing, damaged, or not as many as the run made.
    """
    refuse_links_that_lead_out(run)
    numbers = dict.fromkeys((*_ALWAYS, *(metric for metric in metrics if metric != RELATIVE_TO_FLOOR)))
    names = (*_WORDS, *_COUNTS, *numbers, "shape")
    of_table = manifest.finished and PARQUET in manifest.seals
    path = run / (PARQUET if of_table else RECORDS)
    columns = _of_table(path, manifest, names) if of_table else _of_lines(path, manifest, names)
    made = columns["mode"].count(ACCUMULATED)
    if manifest.finished and made != manifest.compared:
        raise RunError(
            f"{path} holds {made} records but the run made {manifest.compared}; restore it from a copy, or run again"
        )
    try:
        floats = {name: np.array(list(map(float, columns[name])), dtype=np.float64) for name in numbers}
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); restore it from a copy, or run again") from None
    shapes = columns["shape"]
    counts = {name: columns[name] for name in _COUNTS}
    counts |= {"tokens": [shape[0] if shape else 1 for shape in shapes], "elements": list(map(math.prod, shapes))}
    return RecordColumns({name: columns[name] for name in _WORDS}, counts, floats)


def _of_table(path: Path, manifest: Manifest, names: Sequence[str]) -> dict[str, list[Any]]:
    """The named columns of the table that a finished run sealed."""
    table = sealed_table(path, manifest.seals[path.name], names)
    columns = {name: table.column(name) for name in names}
    whole = {n: column.fill_null(math.nan) if column.null_count else column for n, column in columns.items()}
    return {name: column.to_pylist() for name, column in whole.items()}  # a nan of the table is null


def _of_lines(path: Path, manifest: Manifest, names: Sequence[str]) -> dict[str, list[Any]]:
    """The same of the lines that the table was made of: of a run that was cut short there is none."""
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for rows in rows_of(path, manifest, names):
        for name, column in columns.items():
            column += [row[name] for row in rows]
    return columns


def rows_of(path: Path, manifest: Manifest, needed: Collection[str]) -> Iterator[list[dict[str, Any]]]:
    """The objects of a line file of that run, some lines at a time: all of them would be most of the memory.

    Raises RunError, naming the line, for one that is no object or lacks a key of those that are `needed`.
    """
    lines = whole_lines(path, finished=manifest.finished, seal=manifest.seals.get(path.name))
    for first in range(0, len(lines), _LINES_AT_ONCE):
        some = lines[first : first + _LINES_AT_ONCE]
        try:
            rows = json.loads(b"[" + b",".join(some) + b"]")
        except ValueError:
            rows = []
        keys = set(needed)
        if len(rows) != len(some) or not all(isinstance(row, dict) and row.keys() >= keys for row in rows):
            raise _damaged(path, some, first, keys)
        yield rows


def _damaged(path: Path, lines: Sequence[bytes], first: int, needed: set[str]) -> RunError:
    """The error that names the first of these lines which is no record."""
    for number, line in enumerate(lines, start=first + 1):
        why = "it lacks a part of its record"
        try:
            row = json.loads(line)
            if isinstance(row, dict) and row.keys() >= needed:
                continue
        except ValueError as error:
            why = str(error)
        return RunError(f"{path}, line {number}, is damaged ({why}); restore the file or run again")
    return RunError(f"{path}, between lines {first + 1} and {first + len(lines)}, is damaged; restore it or run again")
