# SPDX-License-Identifier: Apache-2.0
"""An op record: one ttnn op inside a tracked module, what went in and out, and its own error against a golden."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

NO_GOLDEN, GOLDEN_FAILED, COMPARED = "no golden", "golden failed", "compared"
NONFINITE, SHAPE_MISMATCH, UNREADABLE = "nonfinite", "shape_mismatch", "unreadable"


@dataclass(frozen=True)
class TensorNote:
    """What a tensor was when an op saw it; `name` is the op's own name for the argument."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    memory: str


@dataclass(frozen=True)
class Judged:
    """The part of an op record that a comparison gives."""

    status: str
    rel_l2: float = math.nan
    pcc: float = math.nan
    max_abs_diff: float = math.nan
    slope: float = math.nan
    format_rel_l2: float = math.nan
    nonfinite_golden: int = 0
    nonfinite_port: int = 0
    golden: str = ""
    note: str = ""


@dataclass(frozen=True)
class OpRecord:
    """One op. The order of the fields is the order of the columns in every table and file.

    `index` counts the ops of its boundary within one call of the port. The metrics are of the op alone: its output
    against `golden` ("ttnn" for ttnn's own golden function, "tttdebug" for ours) computed in fp32 from the inputs that
    the op really had. Of several outputs the one with the greatest rel_l2 counts. `format_rel_l2` is what packing the
    golden in the output's number format alone costs. `status` says whether there was a comparison, and if not, `note`
    says why. `user` is -1 where the call holds several.
    """

    boundary: str
    index: int
    op: str
    status: str
    rel_l2: float
    pcc: float
    max_abs_diff: float
    slope: float
    format_rel_l2: float
    nonfinite_golden: int
    nonfinite_port: int
    golden: str
    phase: str
    step: int
    user: int
    inputs: tuple[TensorNote, ...]
    outputs: tuple[TensorNote, ...]
    settings: dict[str, str]
    compute_kernel_config: str
    program_config: str
    plan: str
    engine: str
    seconds: float
    note: str = ""

    @property
    def badness(self) -> tuple[int, float]:
        """What records are sorted by, worst last: those that hold no number first, then by rel_l2."""
        wrong = self.status in (NONFINITE, SHAPE_MISMATCH)
        if not wrong and math.isnan(self.rel_l2):
            return (0, 0.0)
        return (2, 0.0) if wrong else (1, self.rel_l2)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; floats that JSON cannot hold become the strings "nan", "inf" and "-inf"."""
        line = {name: getattr(self, name) for name in COLUMNS}
        line = {n: str(v) if isinstance(v, float) and not math.isfinite(v) else v for n, v in line.items()}
        notes = {name: [vars(note) for note in line[name]] for name in ("inputs", "outputs")}
        return line | notes

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> OpRecord:
        """The record of one parsed line. Raises KeyError, TypeError or ValueError when the line is not one."""
        values = {name: _READERS[name](line[name]) for name in COLUMNS}
        for name in ("inputs", "outputs"):
            values[name] = tuple(TensorNote(**{**note, "shape": tuple(note["shape"])}) for note in line[name])
        return cls(**values)


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(OpRecord))
_READERS: dict[str, Any] = {
    f.name: {"float": float, "int": int, "str": str}.get(str(f.type), lambda value: value) for f in fields(OpRecord)
}
_READERS["settings"] = dict


def worst_first(ops: list[OpRecord]) -> list[OpRecord]:
    """Records that hold no number first, then by falling rel_l2; those without a golden last."""
    return sorted(ops, key=lambda op: (-op.badness[0], -op.badness[1] if not math.isnan(op.badness[1]) else 0.0))
