# SPDX-License-Identifier: Apache-2.0
"""The run's first prompt read again by the same port: whether a module gives what it gave when the run read it.

A port that is right the first time and wrong from then on shows in no repetition that comes after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tttdebug.analysis.exchange import rows_of
from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.analysis.turns import Turn
from tttdebug.backends import is_device_tensor, unreadable
from tttdebug.errors import LayoutError
from tttdebug.tracking.call_numbers import first_call_of
from tttdebug.tracking.calls import known_call
from tttdebug.tracking.comparison import compare
from tttdebug.tracking.layout import align
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import ACCUMULATED, Run
from tttdebug.tracking.spread import read_output
from tttdebug.tracking.subject import Subject

CHANGED = 0.01
"""Of the greater of two errors, the difference from which they are not the same: the reference repeats itself."""


class ReadAgain:
    """Listens to a port that reads the prompts of `run` once more, for the first module that gives something else."""

    def __init__(self, subject: Subject, run: Run) -> None:
        self._layouts = {modules.pair.boundary: modules.pair.layout for modules in subject.paired}
        self._then: Mapping[str, Record] = {
            record.boundary: record
            for record in run.records
            if (record.mode, record.phase, record.user) == (ACCUMULATED, "prefill", 0)
        }
        self._changed: tuple[Record, float] | None = None

    def after(self, boundary: str, turn: Turn, output: Any) -> None:
        """The module at `boundary` gave this."""
        part, then = turn.users.get(0), self._then.get(boundary)
        if part is None or then is None or turn.phase != "prefill" or self._changed is not None:
            return
        layout, known = self._layouts[first_call_of(boundary)], known_call(boundary, part.calls)
        tensor, _ = element_of(output, None if layout is None else layout.port_element, "port")
        if known is None or not is_device_tensor(tensor) or unreadable(tensor):
            return
        try:
            aligned = align(part.calls[known].output_tensor, read_output(tensor), layout=layout, **rows_of(turn, part))
        except LayoutError:  # which the run told of when it compared it
            return
        now = compare(aligned.reference_TC, aligned.port_TC).rel_l2
        if not math.isclose(now, then.rel_l2, rel_tol=CHANGED) and not math.isnan(now + then.rel_l2):
            self._changed = then, now

    def findings(self) -> list[Finding]:
        """A finding where a module gave something else."""
        if self._changed is None:
            return []
        then, now = self._changed
        where = then.boundary
        return [
            Finding(
                where,
                "state_leak",
                f"{where} gives something else when the run's first prompt is read again (rel_l2 {now:.3g}) than when "
                f"the run read it as the first of all ({then.rel_l2:.3g}): it reads what an earlier call left behind",
                module=then.module,
                reference_path=then.reference_path,
                experiments=(Experiment("the same prompt read first of all", now, then.rel_l2, then.floor_rel_l2),),
                fix=Fix(
                    f"make {where} read nothing that an earlier call wrote: buffers and arguments kept between "
                    "calls, captured traces, a cache that is not cleared"
                ),
                records=(then.key,),
            )
        ]
