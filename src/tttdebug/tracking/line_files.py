# SPDX-License-Identifier: Apache-2.0
"""Reading a run's line files: a JSON object a line; of a run that was cut short the last may be torn."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tttdebug.errors import RunError
from tttdebug.tracking.run_files import check_seal, sealed_bytes

Built = TypeVar("Built")
_CHUNK = 1 << 22  # bytes read at a time
_DECODER = json.JSONDecoder()


def read_lines(
    path: Path, build: Callable[[dict[str, Any]], Built], *, finished: bool, seal: str | None = None
) -> Iterator[Built]:
    """What `build` makes of each line. Of a run that is not `finished` the file may be missing or end within a line.

    Raises RunError naming the file that is not the sealed one, or the line that `build` cannot make anything of.
    """
    for number, line in enumerate(_objects(path, finished, seal), start=1):
        try:
            yield build(line)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(
                f"{path}, line {number}, is not a record ({error!r}); restore the file or run again"
            ) from None


@dataclass(frozen=True)
class LineFinder:
    """Single lines of a line file, found by how they start. What it has not been asked for is not kept in memory."""

    path: Path
    finished: bool
    seal: str | None = None

    def starting(self, start: str) -> dict[str, Any] | None:
        """The first line that starts so; None where there is none.

        Raises RunError naming the file that is missing, or not the sealed one, or the line that is damaged.
        """
        if not self._is_there:
            return None
        sought = b"\n" + start.encode()
        with self.path.open("rb") as file:
            kept = b"\n"  # the first line has no end of another before it
            while chunk := file.read(_CHUNK):
                kept += chunk
                if (at := kept.find(sought)) >= 0:
                    return self._parsed(kept[at + 1 :] + file.readline())
                kept = kept[-len(sought) :]
        return None

    def parts(self, starts: Collection[str], part: str) -> Iterator[tuple[str, Any]]:
        """Each of `starts` with the value of a `part` that stands in the line starting so, in the order of the file.

        One pass that parses nothing else; lines without that part, and starts without a line, are left out. Raises
        RunError as `starting` does.
        """
        if not starts or not self._is_there:
            return
        sought = {start.encode(): start for start in starts}
        lengths = sorted({len(start) for start in sought})
        mark = f', "{part}": '.encode()  # which no text holds: in there a quotation mark follows a backslash
        with self.path.open("rb") as file:
            for line in file:
                start = next((sought[line[:length]] for length in lengths if line[:length] in sought), None)
                if start is not None and line.endswith(b"\n") and (at := line.find(mark)) >= 0:
                    try:
                        value, _ = _DECODER.raw_decode(line[at + len(mark) :].decode())
                    except (ValueError, RecursionError) as error:
                        raise self._damaged(error) from None
                    yield start, value

    def _parsed(self, content: bytes) -> dict[str, Any] | None:
        line, end, _ = content.partition(b"\n")
        if not end and not self.finished:
            return None
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> RunError:
        return RunError(f"{self.path} is damaged ({error}); restore the file or run again")

    @cached_property
    def _is_there(self) -> bool:
        if self.seal is not None:
            check_seal(self.path, self.seal)
        elif not self.path.is_file():
            if self.finished:
                raise RunError(f"{self.path} is missing from a finished run; restore it from a copy, or run again")
            return False
        return True


def _objects(path: Path, finished: bool, seal: str | None) -> Iterator[dict[str, Any]]:
    """The JSON objects of a line file."""
    lines = whole_lines(path, finished=finished, seal=seal)
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}, line {number}, is damaged ({error}); restore the file or run again") from None
        if not isinstance(content, dict):
            raise RunError(f"{path}, line {number}, holds no object; restore the file or run again")
        yield content


def whole_lines(path: Path, *, finished: bool, seal: str | None = None) -> list[bytes]:
    """The lines of a line file. A last line without its end is what a killed process leaves: it is dropped.

    Raises RunError where the file of a finished run is missing, torn, or not the sealed one.
    """
    if not path.is_file() and seal is None:
        if not finished:
            return []
        raise RunError(f"{path} is missing from a finished run; restore it from a copy, or run again")
    *lines, torn = sealed_bytes(path, seal).split(b"\n")
    if torn and finished:
        raise RunError(
            f"{path} ends in the middle of a line though its run finished; restore it from a copy, or run again"
        )
    return lines
