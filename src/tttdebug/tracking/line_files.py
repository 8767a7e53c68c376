# SPDX-License-Identifier: Apache-2.0
"""Reading a run's line files: a JSON object a line; of a run that was cut short the last may be torn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tttdebug.errors import RunError
from tttdebug.tracking.run_files import sealed_bytes

Built = TypeVar("Built")


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
