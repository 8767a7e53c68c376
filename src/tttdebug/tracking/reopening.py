# SPDX-License-Identifier: Apache-2.0
"""Adding to a finished run: records of further experiments, verdicts that they settle, and findings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tttdebug.errors import RunError
from tttdebug.tracking.profile import ErrorProfile
from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.run import ACCUMULATED, FINDINGS, MANIFEST, PARQUET, PROFILES, RECORDS, Run, write_parquet
from tttdebug.tracking.run_files import replace_text, seals_of

_CHANGED = (RECORDS, PROFILES, PARQUET, FINDINGS)


class ReopenedRun:
    """A run that is being added to. Until `finish` its manifest says that it is unfinished, and it loads as such.

    What an earlier explanation added is dropped first.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.experiments: list[Record] = []
        untouched = {name: seal for name, seal in run.manifest.seals.items() if name not in _CHANGED}
        self.manifest = replace(run.manifest, status="unfinished", seals=untouched)
        self.manifest.write(run.path / MANIFEST)
        if run.experiments:
            _replace(run.path / RECORDS, [record.to_json() for record in run.records])
            accumulated = {key: profile for key, profile in run.profiles.items() if key.mode == ACCUMULATED}
            _replace(run.path / PROFILES, [_profile_line(key, profile) for key, profile in accumulated.items()])
        try:
            self._records, self._profiles = (
                (run.path / name).open("a", encoding="utf-8") for name in (RECORDS, PROFILES)
            )
        except OSError as error:
            raise RunError(
                f"cannot write into {run.path}: {error.strerror}; copy it to a folder you may write"
            ) from None

    def append(self, record: Record, profile: ErrorProfile | None = None) -> None:
        """Write one record, and what its error looks like."""
        try:
            if profile is not None:
                self._profiles.write(json.dumps(_profile_line(record.key, profile.to_json())) + "\n")
                self._profiles.flush()
            self._records.write(json.dumps(record.to_json()) + "\n")
            self._records.flush()
        except OSError as error:
            raise RunError(f"cannot write {self._run.path}: {error.strerror}; what is there is kept") from None
        self.experiments.append(record)

    def finish(self, verdicts: Mapping[Key, str], findings: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> Run:
        """Close the run as complete, with what the experiments say of its verdicts, and give it back."""
        self._records.close()
        self._profiles.close()
        records, experiments = (
            [replace(record, verdict=verdicts.get(record.key, record.verdict)) for record in records]
            for records in (self._run.records, self.experiments)
        )
        _replace(self._run.path / RECORDS, [record.to_json() for record in (*records, *experiments)])
        text = json.dumps({"findings": list(findings), "notes": list(notes)}, indent=1)
        replace_text(self._run.path / FINDINGS, text)
        self.manifest = replace(self.manifest, status="finished")
        run = Run(self._run.path, self.manifest, records, experiments, self._run._temporary, self._run.subject)
        write_parquet(run)
        seals = {**self.manifest.seals, **seals_of(run.path, _CHANGED)}
        run.manifest = self.manifest = replace(self.manifest, seals=seals)
        self.manifest.write(run.path / MANIFEST)
        return run


def _profile_line(key: Key, profile: Mapping[str, Any]) -> dict[str, Any]:
    return {"key": vars(key), "profile": dict(profile)}


def _replace(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replace a line file in one step."""
    replace_text(path, "".join(json.dumps(line) + "\n" for line in lines))
