# SPDX-License-Identifier: Apache-2.0
"""The records of a run column by column, for what looks at all of them at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttdebug.errors import RunError
from tttdebug.testing.limits import RELATIVE_TO_FLOOR, Floats
from tttdebug.tracking.line_files import whole_lines
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Key
from tttdebug.tracking.run import ACCUMULATED, RECORDS

_WORDS = ("boundary", "phase", "mode", "verdict", "note", "module", "reference_path")
_COUNTS = ("step", "user", "worst_token")
_ALWAYS = ("pcc", "rel_l2", "floor_rel_l2", "rmse", "worst_token_pcc")
_LINES_AT_ONCE = 4096  # what was parsed is let go after so many lines: all of it would be most of the memory


@dataclass(frozen=True)
class RecordColumns:
    """N records: `words` and `counts` are lists, `numbers` float64 arrays, each of length N; `shapes` theirs."""

    words: Mapping[str, Sequence[str]]
    counts: Mapping[str, Sequence[int]]
    numbers: Mapping[str, Floats]
    shapes: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.shapes)

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

    @cached_property
    def boundaries(self) -> tuple[list[str], NDArray[np.int64]]:
        """The different boundaries in the order in which they come, and of each row the number of its own."""
        return numbered(self.words["boundary"])

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """How many tokens each record compared."""
        return np.array([shape[0] if shape else 1 for shape in self.shapes], dtype=np.int64)

    def metric(self, name: str) -> Floats:
        """A column that limits can be set on; rel_l2_of_floor is 0 where nothing errs and no error is due."""
        if name != RELATIVE_TO_FLOOR:
            return self.numbers[name]
        rel_l2, floor = self.numbers["rel_l2"], self.numbers["floor_rel_l2"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((rel_l2 == 0) & (floor == 0), 0.0, rel_l2 / floor)


def numbered(words: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The different words in the order in which they come, and of each the number of it."""
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(word, len(numbers)) for word in words]
    return list(numbers), np.array(codes, dtype=np.int64)


def read_columns(run: Path, manifest: Manifest, metrics: Iterable[str]) -> RecordColumns:
    """The records in folder `run` with the metrics named; of an unfinished run as many as there are.

    Raises RunError, naming file and line, where they are missing, damaged, or not as many as the run made.
    """
    path = run / RECORDS
    numbers = dict.fromkeys((*_ALWAYS, *(metric for metric in metrics if metric != RELATIVE_TO_FLOOR)))
    columns: dict[str, list[Any]] = {name: [] for name in (*_WORDS, *_COUNTS, *numbers, "shape")}
    lines = whole_lines(path, finished=manifest.finished, seal=manifest.seals.get(RECORDS))
    for first in range(0, len(lines), _LINES_AT_ONCE):
        some = lines[first : first + _LINES_AT_ONCE]
        try:
            rows = json.loads(b"[" + b",".join(some) + b"]")
            if len(rows) != len(some):
                raise ValueError("a line holds no single object")
            for name, column in columns.items():
                column += [row[name] for row in rows]
        except (ValueError, KeyError, TypeError):
            raise _damaged(path, some, first, columns) from None
    made = columns["mode"].count(ACCUMULATED)
    if manifest.finished and made != manifest.compared:
        raise RunError(
            f"{path} holds {made} records but the run made {manifest.compared}; restore it from a copy, or run again"
        )
    try:
        floats = {name: np.array([float(value) for value in columns[name]], dtype=np.float64) for name in numbers}
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); restore it from a copy, or run again") from None
    return RecordColumns(
        {name: columns[name] for name in _WORDS}, {name: columns[name] for name in _COUNTS}, floats, columns["shape"]
    )


def _damaged(path: Path, lines: Sequence[bytes], first: int, needed: Iterable[str]) -> RunError:
    """The error that names the first of these lines which is no record."""
    for number, line in enumerate(lines, start=first + 1):
        try:
            row = json.loads(line)
            if isinstance(row, dict) and row.keys() >= set(needed):
                continue
            why = "it holds no record"
        except ValueError as error:
            why = str(error)
        return RunError(f"{path}, line {number}, is damaged ({why}); restore the file or run again")
    return RunError(f"{path}, near line {first + 1}, is damaged; restore the file or run again")
