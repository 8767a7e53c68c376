# SPDX-License-Identifier: Apache-2.0
"""A run: all records of one comparison, in memory and on disk, written as it happens and readable when cut short."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tttdebug.errors import RunError
from tttdebug.tracking.line_files import Built, LineFinder, read_lines
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.op_record import COLUMNS as OP_COLUMNS
from tttdebug.tracking.op_record import OpRecord
from tttdebug.tracking.record import COLUMNS, Key, Record
from tttdebug.tracking.run_files import refuse_links_that_lead_out, sealed_bytes
from tttdebug.tracking.saved_pair import SavedPair

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
SEALED = (RECORDS, PROFILES, TOKENS, OPS, CALLS, PARQUET, FINDINGS)
ACCUMULATED, ISOLATED, INHERITED = "accumulated", "isolated", "inherited"


@dataclass
class Run:
    """The records of one comparison of a port with its reference, in the order in which they were made.

    `records` compare the two sides as they ran; `experiments` are the isolated and inherited records of an explanation.
    """

    path: Path
    manifest: Manifest
    records: Sequence[Record]
    experiments: Sequence[Record] = field(default_factory=list)
    _temporary: TemporaryDirectory[str] | None = field(default=None, repr=False)
    subject: Subject | None = field(default=None, repr=False, compare=False)
    """Both sides, where the run was made in this process: what further experiments need."""

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """The run in folder `path`, finished or not.

        Raises RunError naming the file that is missing, damaged, of a newer schema, or a link that leads out of it.
        """
        path = Path(path)
        manifest = Manifest.read(path / MANIFEST)
        refuse_links_that_lead_out(path)
        lines = _lines(path, manifest, RECORDS, Record.from_json)
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
                f"cannot write the run to {path}: {error.strerror or error}; choose a folder you may write to"
            ) from None
        return path

    @cached_property
    def frame(self) -> pandas.DataFrame:
        """A row a record, experiments included, columns as in the files."""
        import pandas

        rows = [[getattr(record, name) for name in COLUMNS] for record in (*self.records, *self.experiments)]
        return pandas.DataFrame(rows, columns=list(COLUMNS))

    @cached_property
    def failed(self) -> Sequence[Record]:
        """The records whose gate fails for a reason that the number formats do not explain."""
        return self._failing(self.records)

    @property
    def passed(self) -> bool:
        """Whether the run finished and compared everything it expected, with no golden refused, no gate failed and no
        weight found wrong.

        A wrong weight may cost little with one prompt and much with the next, so that gates that hold are no excuse.
        """
        complete = self.manifest.finished and 0 < self.manifest.compared == self.manifest.expected
        held = not self.failed and not self._failing(self.experiments)
        return complete and held and not self.manifest.wrong_weights and not self.manifest.refused_goldens

    def first_divergence(self) -> Record | None:
        """The first record, in the order of execution, whose gate fails; where none does, the first experiment that
        shows an error of a module's own.
        """
        failing = self.failed or self._failing(self.experiments)
        return failing[0] if failing else None

    def _failing(self, records: Sequence[Record]) -> Sequence[Record]:
        return [record for record in records if record.failed]

    def profile(self, key: Key) -> dict[str, Any] | None:
        """What `profiles` holds of one record, without reading what it holds of the others; None where nothing."""
        line = self._profile_lines.starting(_start_of_line(key))
        return None if line is None else line["profile"]

    def profile_parts(self, keys: Iterable[Key], part: str) -> Iterator[tuple[Key, Any]]:
        """One `part` of what `profiles` holds of some records, such as "heads", without reading the rest of it; of the
        records that have it.
        """
        starts = {_start_of_line(key): key for key in keys}
        for start, value in self._profile_lines.parts(starts, part):
            yield starts[start], value

    @cached_property
    def _profile_lines(self) -> LineFinder:
        path, manifest = self.path / PROFILES, self.manifest
        return LineFinder(path, finished=manifest.finished, seal=manifest.seals.get(PROFILES))

    @cached_property
    def profiles(self) -> dict[Key, dict[str, Any]]:
        """What `ErrorProfile` kept of each compared pair: error per token, histogram, worst elements."""
        return dict(_lines(self.path, self.manifest, PROFILES, _keyed_profile))

    @cached_property
    def tokens(self) -> list[dict[str, Any]]:
        """A line a token position: what each side predicts after it, and how far the predictions are apart."""
        return _lines(self.path, self.manifest, TOKENS, dict)

    @cached_property
    def op_records(self) -> list[OpRecord]:
        """Every ttnn op inside the tracked modules, in the order of execution; none where ops were not tracked."""
        if self.manifest.ops is None:
            return []
        records = _lines(self.path, self.manifest, OPS, OpRecord.from_json)
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
        kept = (self.path / CALLS).is_file() or CALLS in self.manifest.seals
        return _lines(self.path, self.manifest, CALLS, dict) if kept else []

    def saved_pair(self, key: Key) -> SavedPair | None:
        """The saved tensors of a record, to be read a part at a time; None if they were not saved.

        Raises RunError when the file is damaged, or missing though the run saved it.
        """
        name = f"{TENSORS}/{key.file_name}.safetensors"
        path, seal = self.path / name, self.manifest.seals.get(name)
        return None if not path.is_file() and seal is None else SavedPair.open(path, seal)

    def tensors(self, key: Key) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The saved (reference, port) tensors of a record, both in the reference's layout, or None if not saved.

        Raises RunError when the file is damaged, or missing though the run saved it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        name = f"{TENSORS}/{key.file_name}.safetensors"
        path, seal = self.path / name, self.manifest.seals.get(name)
        if not path.is_file() and seal is None:
            return None
        content = sealed_bytes(path, seal)
        try:
            pair = load(content)
            return pair["reference"], pair["port"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); run again with --save-tensors") from None


def write_parquet(run: Run) -> None:
    """Put `run.frame` beside the lines that it was made of. Raises RunError when it cannot be written."""
    path = run.path / PARQUET
    try:
        path.unlink(missing_ok=True)
        run.frame.to_parquet(path, index=False)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; the records themselves are kept in {RECORDS}; make room"
        ) from None


def _lines(path: Path, manifest: Manifest, name: str, build: Callable[[dict[str, Any]], Built]) -> list[Built]:
    return list(read_lines(path / name, build, finished=manifest.finished, seal=manifest.seals.get(name)))


def _start_of_line(key: Key) -> str:
    """How a record's line in `profiles.jsonl` starts."""
    return json.dumps({"key": vars(key)})[:-1] + ", "


def _keyed_profile(line: dict[str, Any]) -> tuple[Key, dict[str, Any]]:
    return Key(**line["key"]), line["profile"]
