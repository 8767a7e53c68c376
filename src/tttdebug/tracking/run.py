# SPDX-License-Identifier: Apache-2.0
"""A run: all records of one comparison, in memory and on disk, written as it happens and readable when cut short."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from tttdebug.errors import RunError
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.op_record import COLUMNS as OP_COLUMNS
from tttdebug.tracking.op_record import OpRecord
from tttdebug.tracking.record import COLUMNS, Key, Record

if TYPE_CHECKING:
    import pandas
    import torch

    from tttdebug.tracking.subject import Subject

MANIFEST, RECORDS, PROFILES, TOKENS, OPS, TENSORS = (
    "manifest.json",
    "records.jsonl",
    "profiles.jsonl",
    "tokens.jsonl",
    "ops.jsonl",
    "tensors",
)
CALLS, PARQUET, FINDINGS = "calls.jsonl", "records.parquet", "findings.json"
ACCUMULATED, ISOLATED, INHERITED = "accumulated", "isolated", "inherited"
Built = TypeVar("Built")


@dataclass
class Run:
    """The records of one comparison of a port with its reference, in the order in which they were made.

    `records` compare the two sides as they ran; `experiments` are the isolated and inherited records of an explanation.
    """

    path: Path
    manifest: Manifest
    records: list[Record]
    experiments: list[Record] = field(default_factory=list)
    _temporary: TemporaryDirectory[str] | None = field(default=None, repr=False)
    subject: Subject | None = field(default=None, repr=False, compare=False)
    """Both sides, where the run was made in this process: what further experiments need."""

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """The run in folder `path`, finished or not. Raises RunError naming the file that is missing or damaged."""
        path = Path(path)
        manifest = Manifest.read(path / MANIFEST)
        lines = list(_read(path / RECORDS, Record.from_json, torn_end_allowed=not manifest.finished))
        records = [record for record in lines if record.mode == ACCUMULATED]
        if manifest.finished and len(records) != manifest.compared:
            raise RunError(
                f"{path / RECORDS} holds {len(records)} records but the run made {manifest.compared}; "
                "restore it from a copy, or run again"
            )
        return cls(path, manifest, records, [record for record in lines if record.mode != ACCUMULATED])

    def save(self, path: str | Path) -> Path:
        """Copy this run's files to a new folder `path`. Raises RunError when it exists or cannot be written."""
        path = Path(path)
        try:
            shutil.copytree(self.path, path)
        except FileExistsError:
            raise RunError(
                f"{path} exists already; give a folder that does not, so that no run overwrites another"
            ) from None
        except OSError as error:
            raise RunError(
                f"cannot write the run to {path}: {error.strerror}; choose a folder you may write to"
            ) from None
        return path

    @cached_property
    def frame(self) -> pandas.DataFrame:
        """A row a record, experiments included, columns as in the files."""
        import pandas

        rows = [[getattr(record, name) for name in COLUMNS] for record in (*self.records, *self.experiments)]
        return pandas.DataFrame(rows, columns=list(COLUMNS))

    @property
    def failed(self) -> list[Record]:
        """The records whose gate fails for a reason that the number formats do not explain."""
        return [record for record in self.records if record.failed]

    @property
    def passed(self) -> bool:
        """Whether the run finished, compared everything it expected, and no gate failed."""
        complete = self.manifest.finished and 0 < self.manifest.compared == self.manifest.expected
        return complete and not self.failed and not any(record.failed for record in self.experiments)

    def first_divergence(self) -> Record | None:
        """The first record, in the order of execution, whose gate fails; where none does, the first experiment that
        shows an error of a module's own.
        """
        return next((record for record in (*self.records, *self.experiments) if record.failed), None)

    @cached_property
    def profiles(self) -> dict[Key, dict[str, Any]]:
        """What `ErrorProfile` kept of each compared pair: error per token, histogram, worst elements."""
        return dict(_read(self.path / PROFILES, _keyed_profile, torn_end_allowed=not self.manifest.finished))

    @cached_property
    def tokens(self) -> list[dict[str, Any]]:
        """A line a token position: what each side predicts after it, and how far the predictions are apart."""
        return list(_read(self.path / TOKENS, dict, torn_end_allowed=not self.manifest.finished))

    @cached_property
    def op_records(self) -> list[OpRecord]:
        """Every ttnn op inside the tracked modules, in the order of execution; none where ops were not tracked."""
        if self.manifest.ops is None:
            return []
        records = list(_read(self.path / OPS, OpRecord.from_json, torn_end_allowed=not self.manifest.finished))
        if self.manifest.finished and len(records) != self.manifest.ops:
            raise RunError(
                f"{self.path / OPS} holds {len(records)} ops but the run made {self.manifest.ops}; "
                "restore it from a copy, or run again"
            )
        return records

    @cached_property
    def ops(self) -> pandas.DataFrame:
        """A row an op, columns as in ops.jsonl; empty where ops were not tracked (`td.track(…, ops=True)`)."""
        import pandas

        rows = [[getattr(op, name) for name in OP_COLUMNS] for op in self.op_records]
        return pandas.DataFrame(rows, columns=list(OP_COLUMNS))

    @cached_property
    def calls(self) -> list[dict[str, Any]]:
        """A line a call of a paired module: its number, phase and step, and what its arguments said of user,
        positions and page table. Empty for a run of an earlier version, which did not keep them.
        """
        unfinished = not self.manifest.finished
        written = (self.path / CALLS).is_file() or unfinished
        return list(_read(self.path / CALLS, dict, torn_end_allowed=unfinished)) if written else []

    def tensors(self, key: Key) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The saved (reference, port) tensors of a record, both in the reference's layout, or None if not saved.

        Raises RunError when the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path / TENSORS / f"{key.file_name}.safetensors"
        if not path.is_file():
            return None
        try:
            pair = load_file(path)
            return pair["reference"], pair["port"]
        except (SafetensorError, KeyError) as error:
            raise RunError(f"{path} is damaged ({error}); run again with --save-tensors") from None


def _keyed_profile(line: dict[str, Any]) -> tuple[Key, dict[str, Any]]:
    return Key(**line["key"]), line["profile"]


def _read(path: Path, build: Callable[[dict[str, Any]], Built], *, torn_end_allowed: bool) -> Iterator[Built]:
    """What `build` makes of each line. Raises RunError naming the line that it cannot make anything of."""
    for number, line in enumerate(_read_lines(path, torn_end_allowed), start=1):
        try:
            yield build(line)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}, line {number}, is not a record ({error!r}); restore the file or run again"
            ) from None


def _read_lines(path: Path, torn_end_allowed: bool) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(whole_lines(path, torn_end_allowed), start=1):
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise RunError(f"{path}, line {number}, is damaged ({error}); restore the file or run again") from None
        if not isinstance(content, dict):
            raise RunError(f"{path}, line {number}, holds no object; restore the file or run again")
        yield content


def whole_lines(path: Path, torn_end_allowed: bool) -> list[str]:
    """The lines of a line file. A last line without its end is what a killed process leaves: it is dropped.

    Raises RunError where the file is missing, no text, or torn though its run finished.
    """
    if not path.is_file():
        if torn_end_allowed:
            return []
        raise RunError(f"{path} is missing from a finished run; restore it from a copy, or run again")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged ({error}); restore it from a copy, or run again") from None
    torn = lines.pop()
    if torn and not torn_end_allowed:
        raise RunError(
            f"{path} ends in the middle of a line though its run finished; restore it from a copy, or run again"
        )
    return lines
