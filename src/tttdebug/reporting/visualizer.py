# SPDX-License-Identifier: Apache-2.0
"""ttnn-visualizer's `db.sqlite`: reading the comparisons that ttnn recorded there, and writing a run's as one.

A run becomes one operation a record: each op inside a module if ops were tracked, else each module's output. Each has
its tensors, and a comparison record of its output: a local one (the op alone), or a global one (a module with all that
came in).
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from tttdebug.errors import VisualizerError
from tttdebug.tracking.gates import default_gate
from tttdebug.tracking.op_record import COMPARED, NONFINITE

if TYPE_CHECKING:
    import pandas

    from tttdebug.tracking.run import Run

SCHEMA = "3.5"
COLUMNS = (
    *("operation_id", "operation", "kind", "tensor_id", "golden_tensor_id", "shape", "dtype"),
    *("matches", "desired_pcc", "actual_pcc", "rank"),
)
_OP_PCC = 0.999  # of one op; ttnn's own default of 0.9999 is for ops that are exact but for rounding
_KINDS: tuple[Literal["local", "global"], ...] = ("local", "global")

_RANKED = "rank int NOT NULL DEFAULT 0"
_COMPARISONS = f"tensor_id int, golden_tensor_id int, matches int, desired_pcc float, actual_pcc float, {_RANKED}"
_TABLES = {
    "devices": "device_id int, num_y_cores int, num_x_cores int, num_y_compute_cores int, num_x_compute_cores int, "
    "worker_l1_size int, l1_num_banks int, l1_bank_size int, address_at_first_l1_bank int, "
    "address_at_first_l1_cb_buffer int, num_banks_per_storage_core int, num_compute_cores int, "
    "num_storage_cores int, total_l1_memory int, total_l1_for_tensors int, total_l1_for_interleaved_buffers int, "
    f"total_l1_for_sharded_buffers int, cb_limit int, {_RANKED}",
    "operations": f"operation_id int, name text, duration float, {_RANKED}, UNIQUE(operation_id, rank)",
    "operation_arguments": f"operation_id int, name text, value text, {_RANKED}",
    "tensors": "tensor_id int, shape text, dtype text, layout text, memory_config text, device_id int, address int, "
    f"buffer_type int, {_RANKED}, storage_type text, UNIQUE(tensor_id, rank)",
    "device_tensors": f"tensor_id int, device_id int, address int, {_RANKED}",
    "buffers": "operation_id int, device_id int, address int, max_size_per_bank int, buffer_type int, "
    f"buffer_layout int, {_RANKED}",
    "input_tensors": f"operation_id int, input_index int, tensor_id int, {_RANKED}",
    "output_tensors": f"operation_id int, output_index int, tensor_id int, {_RANKED}",
    "stack_traces": f"operation_id int, stack_trace text, {_RANKED}",
    "captured_graph": f"operation_id int, captured_graph text, {_RANKED}",
    "nodes": f"operation_id int, unique_id int, node_operation_id int, name text, {_RANKED}",
    "edges": "operation_id int, source_unique_id int, sink_unique_id int, source_output_index int, "
    f"sink_input_index int, key int, {_RANKED}",
    "errors": "operation_id int, operation_name text, error_type text, error_message text, stack_trace text, "
    f"timestamp text, {_RANKED}",
    "local_tensor_comparison_records": f"{_COMPARISONS}, UNIQUE(tensor_id, rank)",
    "global_tensor_comparison_records": f"{_COMPARISONS}, UNIQUE(tensor_id, rank)",
    "report_metadata": "key text UNIQUE, value text",
}


def read_comparisons(path: str | Path) -> pandas.DataFrame:
    """A row a comparison record of a `db.sqlite`, local ones first, in the order of the operations.

    Databases of before `rank` are read too. A record whose tensor no operation gave has no operation. Raises
    VisualizerError for a file that is missing, damaged, or none of the visualizer's.
    """
    import pandas

    path = Path(path)
    if not path.is_file():
        raise VisualizerError(f"{path} does not exist; give the db.sqlite of a ttnn report folder")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            rows = [row for kind in _KINDS for row in _comparisons(path, database, kind)]
    except sqlite3.DatabaseError as error:
        raise VisualizerError(f"{path} cannot be read as an SQLite database ({error}); is it whole?") from None
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def comparison_table(comparisons: pandas.DataFrame) -> Table:
    """The records of `read_comparisons`, the lowest PCC first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("operation", "kind", "tensor", "shape", "pcc", "desired", ""):
        table.add_column(column, overflow="fold")
    for row in comparisons.sort_values("actual_pcc", na_position="first").itertuples():
        name = f"{int(row.operation_id)} {row.operation}" if not math.isnan(row.operation_id) else "(no operation)"
        state = "" if row.matches else "differs"
        pcc = "nan" if math.isnan(row.actual_pcc) else f"{row.actual_pcc:.6f}"
        table.add_row(name, row.kind, str(row.tensor_id), str(row.shape), pcc, f"{row.desired_pcc:g}", state)
    return table


def _comparisons(path: Path, database: sqlite3.Connection, kind: str) -> Iterator[Sequence[Any]]:
    records = f"{kind}_tensor_comparison_records"
    has = {table: _columns(database, table) for table in ("operations", "output_tensors", "tensors", records)}
    if not has["operations"] or not has["tensors"]:
        raise VisualizerError(f"{path} has no tables of operations and tensors; it is no database of ttnn-visualizer's")
    if not has[records]:  # written by a ttnn whose comparison mode was off
        return
    same_rank = {
        table: f" AND {table[0]}.rank = c.rank" if {"rank"} <= has[table] & has[records] else ""
        for table in ("operations", "output_tensors", "tensors")
    }
    rank = "c.rank" if "rank" in has[records] else "0"
    yield from database.execute(
        f"""
        SELECT o.operation_id, p.name, '{kind}', c.tensor_id, c.golden_tensor_id, t.shape, t.dtype,
               c.matches, c.desired_pcc, c.actual_pcc, {rank}
        FROM {records} AS c
        LEFT JOIN output_tensors AS o ON o.tensor_id = c.tensor_id{same_rank["output_tensors"]}
        LEFT JOIN operations AS p ON p.operation_id = o.operation_id{same_rank["operations"].replace("o.", "p.")}
        LEFT JOIN tensors AS t ON t.tensor_id = c.tensor_id{same_rank["tensors"]}
        ORDER BY o.operation_id, c.tensor_id
        """
    )


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def write_database(run: Run, path: str | Path) -> Path:
    """Write a run as a `db.sqlite` (at `path`, or in that folder) that ttnn-visualizer opens, and give its path.

    Raises VisualizerError when it exists or cannot be written.
    """
    path = Path(path)
    path = path / "db.sqlite" if path.is_dir() else path
    if path.exists():
        raise VisualizerError(f"{path} exists; give another file, so that no report is overwritten")
    try:
        with closing(sqlite3.connect(path)) as database, database:
            for table, columns in _TABLES.items():
                database.execute(f"CREATE TABLE {table} ({columns})")
            writer = _Writer(database)
            writer.metadata(run)
            if run.op_records:
                writer.ops(run)
            else:
                writer.modules(run)
    except sqlite3.Error as error:
        raise VisualizerError(f"cannot write {path} ({error}); choose a folder you may write to") from None
    return path


class _Writer:
    """Numbers the tensors of a database while its rows are written. Golden tensors have negative numbers."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._tensors = 0

    def metadata(self, run: Run) -> None:
        about = {
            "schema_version": SCHEMA,
            "written_by": f"tttdebug {run.manifest.versions.get('tttdebug', '')}".strip(),
        }
        self._insert("report_metadata", *about.items())
        x, y = run.manifest.device.get("grid", (0, 0))
        self._insert("devices", (0, y, x, y, x, *[0] * 6, x * y, *[0] * 6, 0))

    def ops(self, run: Run) -> None:
        """An operation an op."""
        for number, op in enumerate(run.op_records):
            about = {"module": f"{op.boundary} #{op.index}", "call": f"{op.phase} {op.step}", **op.settings}
            about |= {"compute_kernel_config": op.compute_kernel_config, "program_config": op.program_config}
            about |= {"golden": op.golden or op.status, "rel_l2": f"{op.rel_l2:.6g}"}
            self._operation(number, op.op, op.seconds, {name: value for name, value in about.items() if value})
            for index, note in enumerate(op.inputs):
                self._insert("input_tensors", (number, index, self._tensor(note.shape, note.dtype, note), 0))
            outputs = [self._tensor(note.shape, note.dtype, note) for note in op.outputs]
            self._insert("output_tensors", *((number, i, tensor, 0) for i, tensor in enumerate(outputs)))
            if outputs and op.status in (COMPARED, NONFINITE):
                matches = op.status == COMPARED and (op.rel_l2 == 0 if math.isnan(op.pcc) else op.pcc >= _OP_PCC)
                self._compared("local", outputs[0], op.outputs[0].shape, op.pcc, _OP_PCC, matches)

    def modules(self, run: Run) -> None:
        """An operation a compared output of a module."""
        for number, record in enumerate(run.records):
            about = {"module": record.module, "reference": record.reference_path, "verdict": record.verdict}
            about |= {"call": f"{record.phase} {record.step}, user {record.user}", "rel_l2": f"{record.rel_l2:.6g}"}
            self._operation(number, record.boundary, record.seconds, about)
            output = self._tensor(record.shape, record.dtype)
            self._insert("output_tensors", (number, 0, output, 0))
            if record.verdict != "shape_mismatch":
                desired = default_gate(record.boundary, record.phase, set(), record.shape[0] if record.shape else 1).pcc
                self._compared("global", output, record.shape, record.pcc, desired, not record.failed)

    def _operation(self, number: int, name: str, seconds: float, arguments: dict[str, str]) -> None:
        self._insert("operations", (number, name, 0.0 if math.isnan(seconds) else seconds, 0))
        self._insert("operation_arguments", *((number, key, value, 0) for key, value in arguments.items()))

    def _tensor(self, shape: Sequence[int], dtype: str, note: Any = None) -> int:
        self._tensors += 1
        layout, memory = (f"Layout.{note.layout}", note.memory) if note is not None else ("", "")
        buffer = None if note is None or not memory.startswith(("DRAM", "L1")) else int(memory.startswith("L1"))
        row = (self._tensors, f"Shape({list(shape)})", f"DataType.{dtype.upper()}", layout, memory, 0, None, buffer, 0)
        self._insert("tensors", (*row, "DEVICE"))
        return self._tensors

    def _compared(
        self, kind: str, tensor: int, shape: Sequence[int], actual: float, desired: float, matches: bool
    ) -> None:
        golden = (-tensor, f"Shape({list(shape)})", "DataType.FLOAT32", "Layout.ROW_MAJOR", "", None, None, None, 0)
        self._insert("tensors", (*golden, "HOST"))
        self._insert(
            f"{kind}_tensor_comparison_records", (tensor, -tensor, int(matches), desired, actual, 0)
        )  # nan becomes NULL

    def _insert(self, table: str, *rows: Sequence[Any]) -> None:
        for row in rows:
            places = ", ".join("?" * len(row))
            self._database.execute(f"INSERT INTO {table} VALUES ({places})", tuple(row))
