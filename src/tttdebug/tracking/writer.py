# SPDX-License-Identifier: Apache-2.0
"""Writing a run as it happens: every record is on disk before the next module runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, Literal

from tttdebug.errors import RunError
from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.run import CALLS, MANIFEST, OPS, PROFILES, RECORDS, SEALED, TENSORS, TOKENS, Run, write_parquet
from tttdebug.tracking.run_files import seals_of
from tttdebug.tracking.tensor_budget import DEFAULT_TENSOR_BUDGET, MIB

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.op_record import OpRecord
    from tttdebug.tracking.profile import ErrorProfile
    from tttdebug.tracking.weight_audit import Audit

ROUTER = "router"
SaveTensors = Literal["all", "failed", "none"]


class RunWriter:
    """An open run folder. Records are flushed one by one; `finish` or `fail` closes it.

    `save_tensors` says of which records both tensors are kept: "failed" ones, the neighbours of the first of them, and
    the scores of routers, which are small and tell a tie from a wrong choice; "all", or "none", until `tensor_budget`
    bytes are used up, which the manifest then notes.
    """

    def __init__(
        self,
        out: Path | None,
        manifest: Manifest,
        *,
        save_tensors: SaveTensors = "failed",
        tensor_budget: int = DEFAULT_TENSOR_BUDGET,
    ) -> None:
        self._temporary = TemporaryDirectory(prefix="tttdebug-run-") if out is None else None
        self.path = Path(self._temporary.name) if self._temporary else Path(str(out))
        self.manifest = manifest
        self.records: list[Record] = []
        self._save_tensors = save_tensors
        self._budget, self._budget_left = tensor_budget, tensor_budget
        self._within_budget = True
        self._previous: tuple[Key, torch.Tensor, torch.Tensor] | None = None
        self._neighbours_due = 0
        self._ops = 0
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise RunError(f"{self.path} is not empty; give a new folder, so that no run overwrites another")
            (self.path / TENSORS).mkdir()
            manifest.write(self.path / MANIFEST)
            self._files: dict[str, IO[str]] = {
                name: (self.path / name).open("a", encoding="utf-8") for name in (RECORDS, PROFILES, TOKENS, CALLS)
            }
        except OSError as error:
            raise RunError(
                f"cannot write a run to {self.path}: {error.strerror}; choose another folder with --out"
            ) from None

    def append(self, record: Record, profile: ErrorProfile | None = None) -> None:
        """Write one record, and what its error looks like."""
        if profile is not None:
            self._write(PROFILES, {"key": vars(record.key), "profile": profile.to_json()})
        self._write(RECORDS, record.to_json())
        self.records.append(record)

    def append_tokens(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            self._write(TOKENS, line)

    def keep_audit(self, audit: Audit) -> None:
        """Put down what the audit of the port's weights found, at once: it says why what follows may be wrong."""
        self.manifest = replace(self.manifest, weights=audit.to_json())
        self.manifest.write(self.path / MANIFEST)

    def open_ops(self) -> None:
        """Say that this run holds ops too."""
        self.manifest = replace(self.manifest, ops=0)
        self.manifest.write(self.path / MANIFEST)
        try:
            self._files[OPS] = (self.path / OPS).open("a", encoding="utf-8")
        except OSError as error:
            raise self._cannot_write(OPS, error) from None

    def append_op(self, record: OpRecord) -> None:
        """Write one op."""
        self._write(OPS, record.to_json())
        self._ops += 1

    def append_call(self, line: dict[str, Any]) -> None:
        """Write what a module was told about the call it is in."""
        self._write(CALLS, line)

    def expect_more(self, comparisons: int) -> None:
        """Count comparisons that nobody could foresee: of a module that is called again within a call."""
        self.manifest = replace(self.manifest, expected=self.manifest.expected + comparisons)

    def skip(self, entry: Any) -> None:
        """Note a comparison that was expected and could not be made."""
        self.manifest = replace(self.manifest, skipped=(*self.manifest.skipped, entry))

    def note(self, text: str) -> None:
        if text not in self.manifest.notes:
            self.manifest = replace(self.manifest, notes=(*self.manifest.notes, text))

    def offer_tensors(self, record: Record, reference: torch.Tensor, port: torch.Tensor) -> None:
        """Keep the pair if it is to be kept: see `save_tensors`. Both are in the reference's layout."""
        if self._save_tensors == "none":
            return
        first_failure = record.failed and not any(earlier.failed for earlier in self.records[:-1])
        if first_failure and self._previous is not None:
            self._store(*self._previous)
        wanted = self._save_tensors == "all" or record.failed or self._neighbours_due > 0
        if wanted or kind_of(record.boundary) == ROUTER:
            self._store(record.key, reference, port)
        self._neighbours_due = 1 if first_failure else max(0, self._neighbours_due - 1)
        self._previous = (record.key, reference, port) if not record.failed else None

    def finish(self) -> Run:
        """Close the run as complete and give it back."""
        self.manifest = replace(self.manifest, status="finished")
        return self._close()

    def fail(self, error: BaseException) -> Run:
        """Close the run as cut short by `error`; what was compared stays readable.

        Raises RunError where even that cannot be written; the folder then still loads, as an unfinished run.
        """
        self.manifest = replace(self.manifest, status=f"failed: {type(error).__name__}: {error}")
        return self._close()

    def _close(self) -> Run:
        for name, file in self._files.items():
            try:
                file.close()
            except OSError as error:
                raise self._cannot_write(name, error) from None
        self._previous = None
        self.manifest = replace(self.manifest, compared=len(self.records))
        if OPS in self._files:
            self.manifest = replace(self.manifest, ops=self._ops)
        run = Run(self.path, self.manifest, self.records, _temporary=self._temporary)
        write_parquet(run)
        if self.manifest.finished:
            tensors = (f"{TENSORS}/{path.name}" for path in (self.path / TENSORS).iterdir())
            run.manifest = self.manifest = replace(self.manifest, seals=seals_of(self.path, (*SEALED, *tensors)))
        self.manifest.write(self.path / MANIFEST)
        return run

    def _write(self, name: str, content: dict[str, Any]) -> None:
        try:
            self._files[name].write(json.dumps(content) + "\n")
            self._files[name].flush()
        except OSError as error:
            raise self._cannot_write(name, error) from None

    def _cannot_write(self, name: str, error: OSError) -> RunError:
        return RunError(
            f"cannot write {self.path / name}: {error.strerror}; what was compared so far is kept; make room, or "
            "choose another folder with --out"
        )

    def _store(self, key: Key, reference: torch.Tensor, port: torch.Tensor) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        size = reference.nbytes + port.nbytes
        if not self._within_budget:
            return
        if size > self._budget_left:
            self._within_budget = False
            self.note(
                f"the tensor budget of {self._budget / MIB:,.0f} MiB is used up at {key}: its tensors and later ones "
                "were not saved; raise it with --tensor-budget MIB, or tensor_budget=BYTES of td.track"
            )
            return
        path = self.path / TENSORS / f"{key.file_name}.safetensors"
        if path.exists():
            return
        self._budget_left -= size
        try:
            save_file({"reference": reference.contiguous().cpu(), "port": port.contiguous().cpu()}, path)
        except (OSError, SafetensorError) as error:
            path.unlink(missing_ok=True)
            raise RunError(
                f"cannot write {path} ({error}); what was compared so far is kept; make room, or choose "
                "--save-tensors none"
            ) from None
