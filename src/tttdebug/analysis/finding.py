# SPDX-License-Identifier: Apache-2.0
"""A finding: a named cause at a boundary, the experiments that confirm it, and the change that removes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tttdebug.analysis.causes import CAUSES
from tttdebug.tracking.record import Key

COUNT = "count"
"""The metric of experiments that count something: `before` is what was found, `floor` what a sound port has."""


@dataclass(frozen=True)
class Experiment:
    """One experiment: what was changed, and the error against the port before and after, beside the floor.

    Errors are rel_l2 (‖t − r‖ / ‖r‖) unless `metric` says otherwise.
    """

    what: str
    before: float
    after: float
    floor: float = math.nan
    metric: str = "rel_l2"

    def __str__(self) -> str:
        floor = "" if math.isnan(self.floor) else f" (floor {self.floor:.3g})"
        return f"{self.what}: {self.metric} {self.before:.3g} → {self.after:.3g}{floor}"


@dataclass(frozen=True)
class Fix:
    """A proposed change: in words, and as a line of code or an entry of decoder_config.json where there is one."""

    says: str
    code: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A cause that was tried and came nearest without reaching the floor."""

    cause: str
    says: str
    rel_l2: float


@dataclass(frozen=True)
class Finding:
    """What went wrong at one boundary.

    `cause` is a name of `CAUSES`; it is confirmed by the last of `experiments`, whose error falls to the floor, or it
    is "unknown" and `candidates` say what came nearest. `share` is the part of the final error (KL of the logits; of an
    encoder the squared rel_l2 of what it ends in) that is gone when the boundary's module is exchanged for the
    reference's, nan where that was not measured. `where` says where in the tensor the error sits, `records` which
    records show it.
    """

    boundary: str
    cause: str
    says: str
    module: str = ""
    reference_path: str = ""
    experiments: tuple[Experiment, ...] = ()
    fix: Fix | None = None
    where: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    records: tuple[Key, ...] = ()
    share: float = math.nan

    def __post_init__(self) -> None:
        if self.cause not in CAUSES:
            raise ValueError(f"{self.cause!r} is no cause; add it to CAUSES or take one of {', '.join(CAUSES)}")

    @property
    def confirmed(self) -> bool:
        """Whether an experiment showed that the cause explains the error."""
        return self.cause != "unknown"

    @property
    def evidence(self) -> str:
        """The experiments and the place of the error, in one line."""
        return "; ".join([*map(str, self.experiments), *self.where])

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; numbers that JSON cannot hold become strings."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Finding:
        """The finding of a parsed dict. Raises KeyError, TypeError or ValueError when it is not one."""
        fix = content["fix"]
        return cls(
            **dict(content)
            | {
                "experiments": tuple(_experiment(entry) for entry in content["experiments"]),
                "fix": None if fix is None else Fix(**fix),
                "where": tuple(content["where"]),
                "candidates": tuple(
                    Candidate(entry["cause"], entry["says"], float(entry["rel_l2"])) for entry in content["candidates"]
                ),
                "records": tuple(Key(**entry) for entry in content["records"]),
                "share": float(content["share"]),
            }
        )


def _experiment(entry: Mapping[str, Any]) -> Experiment:
    numbers = {name: float(entry[name]) for name in ("before", "after", "floor")}
    return Experiment(**dict(entry) | numbers)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
