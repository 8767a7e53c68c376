# SPDX-License-Identifier: Apache-2.0
"""The ttnn ops inside some modules, each with its own error."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd
import streamlit as st

from data import file_stamp, open_run
from tttdebug.tracking.op_record import COMPARED, OpRecord, TensorNote
from tttdebug.tracking.opened_run import Call, OpenedRun
from tttdebug.tracking.run import OPS

_NUMBER = st.column_config.NumberColumn(format="%.3g")
_COLUMNS = {
    "rel L2": st.column_config.NumberColumn(format="%.3g", help="of the op alone, from its own inputs, against fp32"),
    "format": st.column_config.NumberColumn(format="%.3g", help="what packing the output in its format alone costs"),
    "max |diff|": _NUMBER,
    "PCC": st.column_config.NumberColumn(format="%.6f"),
    "ms": st.column_config.NumberColumn(format="%.2f"),
}
_Place = tuple[str, str, int]


def show_ops(run: OpenedRun, boundaries: Collection[str], call: Call) -> None:
    """The ops inside some boundaries in one call, in the order of execution; how to get them where there are none."""
    st.subheader("Ops", anchor=False)
    if run.manifest.ops is None:
        st.caption("The ops inside the modules were not recorded. To record them, run again with:")
        st.code("tttdebug run … --ops", language="bash")
        return
    by_place = _ops(run.path, file_stamp(run.path / OPS))
    found = [op for boundary in boundaries for op in by_place.get((boundary, call.phase, call.step), ())]
    rows = [_row(op) for op in found if op.user in (call.user, -1)]
    if not rows:
        st.caption("No op of these modules was recorded in this call.")
        return
    st.caption("In the order of execution; click a column's name to sort. Each error is of the op alone.")
    st.dataframe(pd.DataFrame(rows), column_config=_COLUMNS, hide_index=True, placeholder="–", key="ops")


@st.cache_resource(max_entries=2, show_spinner="Reading the ops …")
def _ops(path: Path, stamp: tuple[int, int]) -> dict[_Place, list[OpRecord]]:
    by_place: dict[_Place, list[OpRecord]] = {}
    for op in open_run(path).op_records:
        by_place.setdefault((op.boundary, op.phase, op.step), []).append(op)
    return by_place


def _row(op: OpRecord) -> dict[str, object]:
    return {
        "boundary": op.boundary,
        "#": op.index,
        "op": op.op.rpartition(".")[2],
        "status": op.status if op.status != COMPARED else "",
        "rel L2": op.rel_l2,
        "format": op.format_rel_l2,
        "PCC": op.pcc,
        "max |diff|": op.max_abs_diff,
        "in": ", ".join(map(_tensor, op.inputs)),
        "out": ", ".join(map(_tensor, op.outputs)),
        "compute kernel": op.compute_kernel_config,
        "ms": 1000 * op.seconds,
        "note": op.note,
    }


def _tensor(note: TensorNote) -> str:
    return f"{note.name} {' × '.join(map(str, note.shape))} {note.dtype.lower()}"
