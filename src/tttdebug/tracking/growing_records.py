# SPDX-License-Identifier: Apache-2.0
"""The records of a run that is still being written: each look at them reads only the lines that are new."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tttdebug.errors import RunError
from tttdebug.tracking.record import Record

if TYPE_CHECKING:
    import pyarrow

_LINES_AT_ONCE = 5_000


class GrowingRecords:
    """A file of records that something else appends to. Several threads may look at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._start_anew()

    def table(self) -> pyarrow.Table:
        """All whole lines so far, a row a record, columns as in the file; none where there is no file yet.

        Raises RunError naming the line that is no record.
        """
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    self._read_on(file.fileno())
            except FileNotFoundError:
                self._start_anew()
            except OSError as error:
                raise RunError(
                    f"{self._path} cannot be read ({error.strerror}); restore it from a copy, or run again"
                ) from None
            return self._table

    def _start_anew(self) -> None:
        self._table = _schema().empty_table()
        self._bytes_read, self._file = 0, (0, 0)

    def _read_on(self, file: int) -> None:
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) != self._file or status.st_size < self._bytes_read:
            self._start_anew()
            self._file = (status.st_dev, status.st_ino)
        new = os.pread(file, status.st_size - self._bytes_read, self._bytes_read)
        *lines, torn = new.split(b"\n")
        if lines:
            self._add(lines)
            self._bytes_read += len(new) - len(torn)

    def _add(self, lines: list[bytes]) -> None:
        import pyarrow

        tables = [self._table]
        for first in range(0, len(lines), _LINES_AT_ONCE):
            tables.append(_table_of(lines[first : first + _LINES_AT_ONCE], self._path, len(self._table) + first))
        self._table = pyarrow.concat_tables(tables).combine_chunks()


def _table_of(lines: list[bytes], path: Path, before: int) -> pyarrow.Table:
    """Some lines as a table; `before` of them are in the file before these."""
    import pyarrow

    try:
        return pyarrow.Table.from_pylist([_row(json.loads(line)) for line in lines], schema=_schema())
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, pyarrow.ArrowException):
        raise _damaged(lines, path, before) from None


def _row(line: dict[str, Any]) -> dict[str, Any]:
    return vars(Record.from_json(line))


def _damaged(lines: list[bytes], path: Path, before: int) -> RunError:
    """The error that names the first of these lines which is no record."""
    import pyarrow

    for number, line in enumerate(lines, start=before + 1):
        try:
            pyarrow.Table.from_pylist([_row(json.loads(line))], schema=_schema())
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError, pyarrow.ArrowException) as error:
            return RunError(f"{path}, line {number}, is damaged ({error!r}); restore the file or run again")
    return RunError(f"{path}, lines {before + 1} to {before + len(lines)}, are damaged; restore the file or run again")


def _schema() -> pyarrow.Schema:
    import pyarrow

    types = {
        "float": pyarrow.float64(),
        "int": pyarrow.int64(),
        "str": pyarrow.string(),
        "tuple[int, ...]": pyarrow.list_(pyarrow.int64()),
        "tuple[str, ...]": pyarrow.list_(pyarrow.string()),
    }
    return pyarrow.schema([(field.name, types[str(field.type)]) for field in fields(Record)])
