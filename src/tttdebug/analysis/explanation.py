# SPDX-License-Identifier: Apache-2.0
"""An explanation: the findings of a run, ranked, and what could not be looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from tttdebug.analysis.finding import Finding
from tttdebug.errors import RunError
from tttdebug.tracking.run import FINDINGS, Run
from tttdebug.tracking.run_files import sealed_bytes


@dataclass(frozen=True)
class Explanation(Sequence[Finding]):
    """The faults found in a run, the one that costs most first; empty where there is none.

    `notes` say what was left out, and why. `run` has the isolated and inherited records that the findings stand on.
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    run: Run

    def __len__(self) -> int:
        return len(self.findings)

    @overload
    def __getitem__(self, place: int) -> Finding: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Finding, ...]: ...

    def __getitem__(self, place: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[place]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def detected(self) -> bool:
        """Whether anything is wrong: a finding, or a gate that fails and is not explained."""
        return bool(self.findings) or not self.run.passed

    @classmethod
    def load(cls, run: Run) -> Explanation | None:
        """What an earlier `explain` wrote into a run's folder; None where there was none.

        Raises RunError when the file is damaged.
        """
        path, seal = run.path / FINDINGS, run.manifest.seals.get(FINDINGS)
        if not path.is_file() and seal is None:
            return None
        written = sealed_bytes(path, seal)
        try:
            content = json.loads(written)
            findings = tuple(Finding.from_json(entry) for entry in content["findings"])
            return cls(findings, tuple(content["notes"]), run)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunError(f"{path} is damaged ({error}); run `tttdebug explain {run.path}` again") from None
