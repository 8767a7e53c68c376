# SPDX-License-Identifier: Apache-2.0
"""A run opened for looking at: 100,000 records in tenths of a second, since only those asked for are built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from tttdebug.tracking.growing_records import GrowingRecords
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import COLUMNS, FAILING_VERDICTS, Record
from tttdebug.tracking.run import ACCUMULATED, MANIFEST, PARQUET, RECORDS, Run
from tttdebug.tracking.run_files import check_seal, refuse_links_that_lead_out
from tttdebug.tracking.sealed_table import sealed_table

if TYPE_CHECKING:
    import pyarrow


class Call(NamedTuple):
    """One call of the model, for one user, compared in one mode."""

    phase: str
    step: int
    user: int
    mode: str

    @classmethod
    def of(cls, record: Record) -> Call:
        return cls(record.phase, record.step, record.user, record.mode)


class SavedRecords(Sequence[Record]):
    """Some rows of a table of records, in the order of execution. A record is built when it is asked for."""

    def __init__(self, table: pyarrow.Table, rows: np.ndarray, columns: _Columns | None = None) -> None:
        """`columns` are those of the table, where there are some already: all views of a run share them."""
        self._table, self._rows = table, rows
        self._columns = _Columns(table) if columns is None else columns

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> SavedRecords: ...

    def __getitem__(self, place: int | slice) -> Record | SavedRecords:
        if isinstance(place, slice):
            return SavedRecords(self._table, self._rows[place], self._columns)
        return next(_built(self._table, self._rows[[place]]))

    def __iter__(self) -> Iterator[Record]:
        return _built(self._table, self._rows)

    def column(self, name: str) -> np.ndarray:
        """One column of these records; of text an array of objects."""
        return self._columns[name][self._rows]

    def where(self, chosen: np.ndarray) -> SavedRecords:
        """Those of these records for which the boolean array `chosen` holds."""
        return SavedRecords(self._table, self._rows[chosen], self._columns)

    @cached_property
    def calls(self) -> dict[Call, SavedRecords]:
        """The records of each call, calls in the order of their first record."""
        rows: dict[Call, list[int]] = {}
        columns = (self._table.column(name).to_pylist() for name in Call._fields)
        of_row = list(zip(*columns, strict=True))
        for row in self._rows.tolist():
            rows.setdefault(Call(*of_row[row]), []).append(row)
        return {call: SavedRecords(self._table, np.array(found), self._columns) for call, found in rows.items()}


class _Columns(dict[str, np.ndarray]):
    """The columns of a table as arrays, made when first asked for."""

    def __init__(self, table: pyarrow.Table) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, name: str) -> np.ndarray:
        self[name] = self._table.column(name).to_numpy()
        return self[name]


def _built(table: pyarrow.Table, rows: np.ndarray) -> Iterator[Record]:
    for line in table.take(rows).to_pylist():
        yield Record.from_json({name: math.nan if value is None else value for name, value in line.items()})


@dataclass
class OpenedRun(Run):
    """A run whose records are read by columns; it says what `Run.load` says of it, and costs what is looked at."""

    records: SavedRecords
    experiments: SavedRecords

    @classmethod
    def load(cls, path: str | Path, growing: GrowingRecords | None = None) -> OpenedRun:
        """The run in folder `path`, from the parquet file where a finished run sealed it, else line by line.

        `growing` has the lines of a run that is still being written and that was looked at before: only what is new is
        read. Raises RunError as `Run.load` does.
        """
        import pyarrow

        path = Path(path)
        manifest = Manifest.read(path / MANIFEST)
        if not manifest.finished:
            refuse_links_that_lead_out(path)
            table = (growing or GrowingRecords(path / RECORDS)).table()
        elif PARQUET in manifest.seals:
            refuse_links_that_lead_out(path)
            check_seal(path / RECORDS, manifest.seals[RECORDS])
            table = sealed_table(path / PARQUET, manifest.seals[PARQUET], COLUMNS)
        else:
            frame = Run.load(path).frame
            table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        accumulated = np.array(table.column("mode").to_pylist(), dtype=object) == ACCUMULATED
        every_row, columns = np.arange(len(table)), _Columns(table)
        return cls(
            path,
            manifest,
            SavedRecords(table, every_row[accumulated], columns),
            SavedRecords(table, every_row[~accumulated], columns),
        )

    @cached_property
    def by_call(self) -> dict[Call, SavedRecords]:
        """The records of each call, experiments included; calls in the order of their first record."""
        return self.records.calls | self.experiments.calls

    def _failing(self, records: Sequence[Record]) -> SavedRecords:
        assert isinstance(records, SavedRecords)
        return records.where(np.isin(records.column("verdict"), list(FAILING_VERDICTS)))
