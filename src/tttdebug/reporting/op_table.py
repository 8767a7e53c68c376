# SPDX-License-Identifier: Apache-2.0
"""The table of a run's ttnn ops: those of one boundary, or of all, the worst first."""

from __future__ import annotations

import math
from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tttdebug.errors import RunError
from tttdebug.tracking.op_record import COMPARED, worst_first

if TYPE_CHECKING:
    from tttdebug.tracking.op_record import OpRecord, TensorNote
    from tttdebug.tracking.run import Run


_DETAILED = 5  # ops of a boundary whose tensors and settings are printed too


def op_table(run: Run, boundary: str | None, *, limit: int, in_order: bool = False) -> RenderableType:
    """A row an op. `boundary` may be a layer's name, which stands for all boundaries of that layer.

    Raises RunError for a run without ops, and for a boundary that none of them is in, with the nearest names.
    """
    if run.manifest.ops is None:
        raise RunError(f"{run.path} holds no ops; run again with --ops")
    ops = [op for op in run.op_records if boundary is None or _is_in(op.boundary, boundary)]
    if not ops and boundary is not None:
        known = list(dict.fromkeys(op.boundary for op in run.op_records))
        near = get_close_matches(boundary, known, n=3, cutoff=0.3) or known[:3]
        raise RunError(f"no op of {run.path} is in {boundary!r}; boundaries with ops are {', '.join(near) or 'none'}")
    listed = ops if in_order else worst_first(ops)
    table = Table(box=None, pad_edge=False, header_style="bold")
    several = len({op.boundary for op in ops}) != 1
    for column in ("boundary", "#", "op", "call")[not several :]:
        table.add_column(column, no_wrap=column != "op", overflow="fold")
    for column in ("rel_l2", "format", "pcc", "max abs"):
        table.add_column(column, justify="right", no_wrap=True)
    for op in listed[:limit]:
        table.add_row(*_row(op)[not several :])
    details = [_details(op) for op in listed[:_DETAILED]] if boundary is not None else []
    return Group(_heading(run, ops, boundary, len(listed[:limit]), in_order), table, _footing(ops), *details)


def _is_in(boundary: str, wanted: str) -> bool:
    return boundary == wanted or boundary.startswith(f"{wanted}.")


def _heading(run: Run, ops: list[OpRecord], boundary: str | None, shown: int, in_order: bool) -> Text:
    order = "in the order of execution" if in_order else "worst first"
    return Text(f"{shown} of {len(ops)} ops in {boundary or 'all boundaries'}, {order}  ({run.path})", style="bold")


def _row(op: OpRecord) -> tuple[str | Text, ...]:
    call = op.phase if op.phase == "prefill" else f"{op.phase} {op.step}"
    user = f" user {op.user}" if op.user > 0 else ""
    rel_l2 = Text(_number(op.rel_l2)) if op.status == COMPARED else Text(op.status, style="yellow")
    pcc = "" if math.isnan(op.pcc) else f"{op.pcc:.6f}"
    numbers = (rel_l2, _number(op.format_rel_l2), pcc, _number(op.max_abs_diff))
    return (op.boundary, str(op.index), _short(op.op), call + user, *numbers)


def _short(name: str) -> str:
    """An op's name without the parts of ttnn that hold it, which a table has no room for."""
    return name.rpartition(".")[2]


def _details(op: OpRecord) -> Text:
    """What went in, what came out, and how the op was told to run."""
    text = Text(f"\n{op.boundary} {op.index}  {op.op}", style="bold")
    lines = [f"{note.name} {_tensor(note)}" for note in (*op.inputs, *op.outputs)]
    lines += filter(None, (op.compute_kernel_config, op.program_config, op.plan, op.note))
    if op.settings:
        lines.append(", ".join(f"{name}={value}" for name, value in op.settings.items()))
    for line in lines:
        text.append(f"\n  {line}", style="not bold dim")
    return text


def _tensor(note: TensorNote) -> str:
    return f"{list(note.shape)} {note.dtype.lower()} {note.layout.lower()}, {note.memory}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2e}"


def _footing(ops: list[OpRecord]) -> Text:
    """How many ops could not be compared, by name: they are in no other column."""
    text = Text("rel_l2: the op alone, from its own inputs, against fp32; format: what packing the output alone costs")
    left_out = Counter((op.op, op.status) for op in ops if op.status != COMPARED)
    for (name, status), count in left_out.most_common():
        text.append(f"\n{status}: {name} ({count})", style="yellow")
    return text
