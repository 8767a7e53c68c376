# SPDX-License-Identifier: Apache-2.0
"""The records of a run as JSON lines, each with the run's id, so that the lines of many runs can be kept together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tttdebug.reporting.summary import run_id

if TYPE_CHECKING:
    from tttdebug.tracking.run import Run


def jsonl_report(run: Run) -> str:
    """A line a record, experiments included: `run`, then the keys of records.jsonl in their order."""
    id_ = run_id(run)
    return "".join(
        json.dumps({"run": id_} | record.to_json(), allow_nan=False) + "\n"
        for record in (*run.records, *run.experiments)
    )
