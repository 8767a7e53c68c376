# SPDX-License-Identifier: Apache-2.0
"""The object behind the `accuracy_gate` fixture: compares, keeps the figures, fails with the whole story."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tttdebug.testing.assertions import compared, require

if TYPE_CHECKING:
    from tttdebug.tracking.comparison import Comparison
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

RECORDED = (
    "pcc",
    "rel_l2",
    "slope",
    "max_abs_diff",
    "worst_token_pcc",
    "last_token_pcc",
    "nonfinite_port",
    "nonfinite_reference",
)
"""The metrics of every comparison that become properties of the test, `<name>.<metric>`, in a JUnit report."""


class AccuracyGate:
    """Called with two tensors and the limits they must hold; counts what it compared."""

    def __init__(self, record_property: Callable[[str, object], None]) -> None:
        self.compared = 0
        self._record_property = record_property

    def __call__(
        self, actual: Any, reference: Any, *, name: str = "", token_dim: int | None = -2, **limits: float | None
    ) -> Comparison:
        """The comparison, when it holds `limits`: pcc, rel_l2, slope … as in `Comparison.failures`.

        Its figures are recorded whether it does or not. Raises AssertionError when a limit is missed, LayoutError when
        the shapes differ, TypeError when no limit is given: a gate without one would pass anything finite.
        """
        __tracebackhide__ = True
        if all(limit is None for limit in limits.values()):
            raise TypeError("accuracy_gate needs a limit to hold, such as pcc=0.99 or rel_l2=0.05")
        self.compared += 1
        name = name or f"comparison {self.compared}"
        comparison = compared(actual, reference, token_dim)
        for metric in RECORDED:
            self._record_property(f"{name}.{metric}", getattr(comparison, metric))
        require(comparison, name, **limits)
        return comparison

    def run(self, run: Run) -> None:
        """Hold a tracked run to its gates: it finished, compared all it expected, and no boundary failed.

        The figures of every boundary's worst comparison are recorded whether it passes or not. Raises AssertionError
        with the first divergence when a gate fails.
        """
        __tracebackhide__ = True
        from tttdebug.reporting.console import divergence_text, verdict_text

        self.compared += len(run.records)
        worst: dict[str, Record] = {}
        for record in run.records:
            if record.boundary not in worst or not record.rel_l2 <= worst[record.boundary].rel_l2:
                worst[record.boundary] = record
        for boundary, record in worst.items():
            for figure in ("verdict", *RECORDED, "floor_rel_l2"):
                self._record_property(f"{boundary}.{figure}", getattr(record, figure))
        if not run.passed:
            divergence = run.first_divergence()
            story = "" if divergence is None else f"{divergence_text(run, divergence).plain}\n"
            raise AssertionError(f"{story}{verdict_text(run).plain}\nrun: {run.path}")
