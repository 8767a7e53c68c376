# SPDX-License-Identifier: Apache-2.0
"""A record: one boundary compared once, with its metrics and its verdict, as one line of a run's files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tttdebug.tracking.gates import explained_by_floor

if TYPE_CHECKING:
    from tttdebug.tracking.comparison import Comparison

_LONGEST_FILE_NAME = 200  # file systems take 255 bytes
FAILING_VERDICTS = frozenset({"injected", "diverged", "nonfinite", "shape_mismatch"})


@dataclass(frozen=True)
class Key:
    """What a record is about: which boundary, in which call, for which user."""

    boundary: str
    phase: str = "prefill"
    step: int = 0
    user: int = 0
    mode: str = "accumulated"

    def __str__(self) -> str:
        return f"{self.boundary}.{self.phase}{self.step}.user{self.user}.{self.mode}"

    @property
    def file_name(self) -> str:
        """The same as one part of a path, whatever the boundary is called; the end of a long one is a digest."""
        name = quote(str(self), safe="", errors="surrogatepass")
        if len(name) <= _LONGEST_FILE_NAME:
            return name
        return f"{name[: _LONGEST_FILE_NAME - 17]}.{sha256(name.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Record:
    """One compared boundary. The order of the fields is the order of the columns in every table and file.

    `seconds` is the wall time of the port's module call; `floor_rel_l2` the rel_l2 that the declared number formats
    must cause; `dtype` that of the port's output; `adapters` what was done to its layout before comparing;
    `input_rel_l2` the error of what came in, of an inherited record.
    """

    boundary: str
    pcc: float
    max_abs_diff: float
    shape: tuple[int, ...]
    mode: str
    phase: str
    step: int
    user: int
    verdict: str
    rel_l2: float
    slope: float
    norm_ratio: float
    cosine: float
    mean_abs: float
    rmse: float
    ulp_p50: float
    ulp_p99: float
    ulp_max: float
    worst_token: int
    worst_token_pcc: float
    last_token_pcc: float
    nonfinite_reference: int
    nonfinite_port: int
    floor_rel_l2: float
    module: str
    reference_path: str
    dtype: str
    adapters: tuple[str, ...]
    engine: str
    seconds: float
    note: str = field(default="")
    input_rel_l2: float = math.nan

    @property
    def key(self) -> Key:
        return Key(self.boundary, self.phase, self.step, self.user, self.mode)

    @property
    def failed(self) -> bool:
        """Whether this boundary misses its gate for a reason that the number formats do not explain."""
        return self.verdict in FAILING_VERDICTS

    @property
    def above_floor(self) -> float:
        """rel_l2 in units of its floor; nan where there is no floor."""
        return self.rel_l2 / self.floor_rel_l2 if self.floor_rel_l2 > 0 else math.nan

    @property
    def amplification(self) -> float:
        """Error out over error in, of an inherited record; nan of any other."""
        return self.rel_l2 / self.input_rel_l2 if self.input_rel_l2 > 0 else math.nan

    @property
    def explained_rel_l2(self) -> float:
        """The greatest rel_l2 that its number formats explain; nan where there is no floor."""
        return explained_by_floor(self.floor_rel_l2, self.shape[0] if self.shape else 1)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; floats that JSON cannot hold become the strings "nan", "inf" and "-inf"."""
        return {name: _to_json(getattr(self, name)) for name in COLUMNS}

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Record:
        """The record of one parsed line. Raises KeyError or ValueError when the line is not one."""
        given = {name: line[name] for name in COLUMNS if name in line or name not in _LATER}
        return cls(**{name: _READERS[name](value) for name, value in given.items()})


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(Record))
_LATER = frozenset({"input_rel_l2"})  # columns that runs of an earlier version lack
_READERS = {
    f.name: {"float": float, "int": int, "str": str, "tuple[int, ...]": tuple, "tuple[str, ...]": tuple}[str(f.type)]
    for f in fields(Record)
}
_METRICS = (
    *("pcc", "max_abs_diff", "shape", "rel_l2", "slope", "norm_ratio", "cosine", "mean_abs", "rmse"),
    *("ulp_p50", "ulp_p99", "ulp_max", "worst_token", "worst_token_pcc", "last_token_pcc"),
    *("nonfinite_reference", "nonfinite_port"),
)


def metrics_of(comparison: Comparison) -> dict[str, Any]:
    """The part of a record that a comparison of two tensors gives."""
    return {name: getattr(comparison, name) for name in _METRICS}


def without_metrics(shape: tuple[int, ...]) -> dict[str, Any]:
    """The same part where nothing could be compared: every number is nan, every place −1."""
    absent: dict[str, Any] = dict.fromkeys(_METRICS, math.nan)
    return absent | {"shape": shape, "worst_token": -1, "nonfinite_reference": 0, "nonfinite_port": 0}


def _to_json(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
