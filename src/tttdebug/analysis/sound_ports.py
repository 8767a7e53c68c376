# SPDX-License-Identifier: Apache-2.0
"""Whether a port errs more than sound ones: than its twin where there is one, else than its formats can explain."""

from __future__ import annotations

from tttdebug.analysis.final_metric import FinalMetric
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.twin import emulated_twin

OF_FLOOR = 9.0
"""Sound ports end in up to so many times the error of the reference in their number formats, which leaves out what
attention and norms round on the way: three times its rel_l2, as the gates of boundaries have it."""

OF_TWIN = 1.5
"""The same of the same port on the emulator, which leaves out the order of sums alone."""


class SoundPorts:
    """How a sound port of the same settings ends. The twin is run when it is first asked for."""

    def __init__(self, run: FreeRun) -> None:
        self._run = run
        self._of_twin: FinalMetric | None = None

    def err_less_than(self, metric: FinalMetric) -> bool:
        """Whether a port that ends so errs more than sound ones."""
        floor = self._run.floor.error
        if not metric.error > floor:
            return False
        if metric.error > OF_FLOOR * floor:
            return True
        twin = self._twin()
        return twin is not None and metric.error > OF_TWIN * max(twin.error, floor)

    def __str__(self) -> str:
        """How they end."""
        formats = f"the reference in its number formats ends in {shown(self._run.floor)}"
        if self._of_twin is not None:
            return f"{formats}, a sound port of the same settings in {shown(self._of_twin)}"
        return f"{formats}, sound ports in up to {OF_FLOOR:g} times as much error"

    def _twin(self) -> FinalMetric | None:
        if self._of_twin is None and (twin := emulated_twin(self._run.subject)) is not None:
            self._of_twin = FreeRun(twin, self._run.progress).metric
        return self._of_twin


def shown(metric: FinalMetric) -> str:
    """The first number of a metric, with its name."""
    name, number = next(iter(metric.columns.items()))
    return f"{name} {number}"
