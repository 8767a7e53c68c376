# SPDX-License-Identifier: Apache-2.0
"""The records of a run as comma-separated values (RFC 4180), a row a record, experiments included."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from tttdebug.tracking.record import COLUMNS

if TYPE_CHECKING:
    from tttdebug.tracking.run import Run


def csv_report(run: Run) -> str:
    """The columns are those of every table: boundary, pcc, max_abs_diff, shape, …

    Floats have every digit that reading them back needs, a shape is `64x96`, adapters are joined by "; ".
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for record in (*run.records, *run.experiments):
        writer.writerow([_cell(name, getattr(record, name)) for name in COLUMNS])
    return text.getvalue()


def _cell(name: str, value: object) -> object:
    if not isinstance(value, tuple):
        return value
    return ("x" if name == "shape" else "; ").join(map(str, value))
