# SPDX-License-Identifier: Apache-2.0
"""Where values that are not finite first arise: the first boundary, and the first op in it, in order of execution."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import COUNT, Experiment, Finding, Fix
from tttdebug.analysis.where import locate

if TYPE_CHECKING:
    from tttdebug.tracking.op_record import OpRecord
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run


def first_nonfinite(run: Run) -> Finding | None:
    """The first boundary of a run whose output the port has values in that are not finite where the reference's are.

    Everything that the port gave before it in the same call of the same user is finite, so that they arise there. Where
    the run holds ops, the first of them that gives such values is named too. None where all is as finite as the
    reference. Raises RunError when the run's files are damaged.
    """
    first = next((record for record in run.records if _arises(record)), None)
    if first is None:
        return None
    before = _before_in_call(run.records, first)
    size = math.prod(first.shape)
    experiment = Experiment(
        f"values that are not finite, of {size:,}, at {first.boundary}"
        + (f" ({before.nonfinite_port:,} at {before.boundary} before it)" if before else ""),
        float(first.nonfinite_port),
        float(before.nonfinite_port if before else 0),
        float(first.nonfinite_reference),
        COUNT,
    )
    op = _first_op(run.op_records, first)
    what = f"{op.op} (op {op.index} of {op.boundary})" if op else first.module or first.boundary
    step = f" {first.step}" if first.phase == "decode" else ""
    where = [f"first in {first.phase}{step} of user {first.user}"]
    if (pair := run.tensors(first.key)) is not None:
        where += locate(*(side.flatten(0, -2) for side in pair), floor_rel_l2=math.nan).sentences()[:1]
    if op is not None:
        where.append(_said_of_op(op))
    return Finding(
        first.boundary,
        "nonfinite",
        f"{first.boundary} is the first output with values that are not finite: {first.nonfinite_port:,} of {size:,} "
        f"in the port, {first.nonfinite_reference:,} in the reference; {what} makes them",
        module=first.module,
        reference_path=first.reference_path,
        experiments=(experiment,),
        fix=Fix(_advice(op, what)),
        where=tuple(where),
        records=(first.key,),
    )


def _arises(record: Record) -> bool:
    return record.nonfinite_port > 0 and (
        record.nonfinite_port > record.nonfinite_reference or record.verdict == "nonfinite"
    )


def _before_in_call(records: Iterable[Record], first: Record) -> Record | None:
    """The record of the same call and user that was made last before it."""
    call = (first.phase, first.step, first.user, first.mode)
    before = None
    for record in records:
        if record is first:
            return before
        if (record.phase, record.step, record.user, record.mode) == call:
            before = record
    return before


def _first_op(ops: Sequence[OpRecord], first: Record) -> OpRecord | None:
    """The first op of the call, in whichever module, that gave more such values than its golden has."""
    of_call = (op for op in ops if (op.phase, op.step) == (first.phase, first.step) and op.user in (-1, first.user))
    return next((op for op in of_call if op.nonfinite_port > 0), None)


def _said_of_op(op: OpRecord) -> str:
    into = ", ".join(f"{note.name} {list(note.shape)} {note.dtype.lower()}" for note in op.inputs)
    if op.nonfinite_golden == 0:
        return (
            f"{op.op} gives {op.nonfinite_port:,} of them from {into}; in fp32 the same inputs give finite values, so "
            "the inputs are finite and the op's own format or algorithm overflows"
        )
    return (
        f"{op.op} gives {op.nonfinite_port:,} of them from {into}; in fp32 the same inputs give "
        f"{op.nonfinite_golden:,} too: an input that no earlier op made, a weight say, holds such values, or the "
        "result is beyond the range of fp32"
    )


def _advice(op: OpRecord | None, what: str) -> str:
    if op is None:
        return f"look at the ops inside {what}: run again with --ops, which names the first one"
    if op.nonfinite_golden:
        return f"read the inputs of {what} back, its weight first, and look for values that are not finite or huge"
    return f"give {what} a wider output format, or inputs of a smaller range"
