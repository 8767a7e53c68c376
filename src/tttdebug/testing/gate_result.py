# SPDX-License-Identifier: Apache-2.0
"""What a gate says of a run: which limits are missed, and whether everything was compared that should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tttdebug.tracking.manifest import Skipped
from tttdebug.tracking.record import Key


@dataclass(frozen=True)
class Miss:
    """One limit that one record misses. `says` is the sentence, `where` the place in the tensor, "" if not known.

    `metric` is a verdict, `nonfinite` or `shape_mismatch`, where that is what fails; `limit` is then nan.
    """

    key: Key
    metric: str
    value: float
    limit: float
    says: str
    about: str
    threshold: str = ""
    where: str = ""


@dataclass(frozen=True)
class WorstValue:
    """The worst value of one metric over all steps and users of a boundary in a phase, and the limit it is held to."""

    boundary: str
    phase: str
    metric: str
    value: float
    limit: float


@dataclass(frozen=True)
class Ledger:
    """Of the comparisons of a run: how many were expected, made, skipped and why, and how many missed a limit.

    `allowed` counts the skipped ones that the thresholds allow, `excused` the records whose number formats explain what
    they miss. `set_aside` are thresholds that limit nothing in this run.
    """

    expected: int
    compared: int
    skipped: tuple[Skipped, ...]
    allowed: int
    failed: int
    excused: int
    unpaired: int
    set_aside: tuple[str, ...]

    @property
    def reasons(self) -> Counter[str]:
        """How many comparisons were skipped for each reason."""
        return Counter(entry.reason for entry in self.skipped)


@dataclass(frozen=True)
class GateResult:
    """A run judged by thresholds. `objections` are what fails apart from limits, a sentence each."""

    run: Path
    model: str
    reference_digest: str
    command: str
    thresholds: str
    thresholds_digest: str
    ledger: Ledger
    objections: tuple[str, ...]
    misses: tuple[Miss, ...]
    worst: tuple[WorstValue, ...]

    @property
    def passed(self) -> bool:
        """Whether every limit holds and the ledger is in order."""
        return not self.objections and not self.misses

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; numbers that JSON cannot hold are strings."""
        return plain({"passed": self.passed, **asdict(self)})


def plain(value: Any) -> Any:
    """`value` with what JSON cannot hold, paths and non-finite numbers, as text."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, Path) or (isinstance(value, float) and not abs(value) < float("inf")):
        return str(value)
    return value
