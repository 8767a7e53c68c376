# SPDX-License-Identifier: Apache-2.0
"""The object behind the `accuracy_gate` fixture: compares, keeps the figures, fails with the whole story."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.testing.assertions import compared, explanation

if TYPE_CHECKING:
    from tttdebug.tracking.comparison import Comparison
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

RECORDED = (
    *("pcc", "rel_l2", "slope", "norm_ratio", "cosine", "max_abs_diff", "mean_abs", "rmse"),
    *("ulp_p50", "ulp_p99", "ulp_max", "worst_token", "worst_token_pcc", "last_token_pcc"),
    *("nonfinite_port", "nonfinite_reference"),
)
"""The metrics of every comparison that become properties of the test, `<name>.<metric>`, in a JUnit report."""


class AccuracyGate:
    """Called with two tensors and the limits they must hold; counts what it compared."""

    def __init__(
        self,
        record_property: Callable[[str, object], None],
        *,
        thresholds: Path | None = None,
        boundaries: Sequence[str] = ("*",),
        baseline: Path | None = None,
        update_baseline: Callable[[Path, Path], None] | None = None,
        command: str = "",
    ) -> None:
        """`command` makes the comparison again. `update_baseline(run, file)` is called for every run that is held to a
        baseline, before it is.
        """
        self.compared = 0
        self._record_property = record_property
        self._thresholds, self._boundaries = thresholds, boundaries
        self._baseline, self._update_baseline = baseline, update_baseline
        self._command = command

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
        missed = comparison.failures(**limits)
        if missed:
            reproduce = f"\n  reproduce: {self._command}" if self._command else ""
            raise AssertionError(explanation(comparison, name, missed) + reproduce)
        return comparison

    def run(self, run: Run, thresholds: str | Path | None = None, boundaries: Sequence[str] | None = None) -> None:
        """Hold a tracked run to its gates: it finished, compared all it expected, and no boundary misses a limit.

        `thresholds` is a file, `boundaries` are patterns of what the test is about; the default of both is what the
        test's `accuracy` marker says, else the default thresholds for every boundary. Where the marker names a baseline
        the run may not be worse than that either. The figures of each boundary are recorded whether it passes or not.
        Raises AssertionError with the ledger and every failure, RunError or
        ThresholdError where there is no result.
        """
        __tracebackhide__ = True
        from tttdebug.reporting.gate_report import gate_text
        from tttdebug.testing.default_thresholds import default_thresholds
        from tttdebug.testing.gating import gate_run, only
        from tttdebug.testing.thresholds import read_thresholds

        path = thresholds or self._thresholds
        held_to = default_thresholds() if path is None else read_thresholds(path)
        result = only(gate_run(run.path, held_to), self._boundaries if boundaries is None else boundaries)
        self.compared += len({worst.boundary for worst in result.worst})
        for worst in result.worst:
            name = f"{worst.boundary}.{worst.phase}.{worst.metric}"
            self._record_property(name, worst.value)
            self._record_property(f"{name}.limit", worst.limit)
        self._record_figures(run, {worst.boundary for worst in result.worst})
        if not result.passed:
            raise AssertionError(gate_text(result))
        if self._baseline is not None:
            self._hold_to_baseline(run.path, self._baseline, {worst.boundary for worst in result.worst})

    def _hold_to_baseline(self, run: Path, baseline: Path, boundaries: Collection[str]) -> None:
        """Raises AssertionError with each of these boundaries that got worse or vanished, BaselineError for no file."""
        __tracebackhide__ = True
        from tttdebug.errors import BaselineError
        from tttdebug.reporting.comparison_text import worse_text
        from tttdebug.testing.baseline_file import read_side
        from tttdebug.testing.comparing import compare_sides
        from tttdebug.testing.side import side_of_run

        if self._update_baseline is not None:
            self._update_baseline(run, baseline)
        if not baseline.exists():
            raise BaselineError(
                f"the baseline {baseline} is not there; write it with --tttdebug-update-baseline, and commit it"
            )
        comparison = compare_sides(side_of_run(run), read_side(baseline))
        worse = [
            each
            for each in comparison.of_kind("worse", "vanished")
            if self._boundaries == ("*",) or each.place.boundary in boundaries
        ]
        if worse:
            raise AssertionError(worse_text(worse, baseline))

    def _record_figures(self, run: Run, boundaries: Collection[str]) -> None:
        """All figures of the comparison of each boundary whose rel_l2 is worst."""
        worst: dict[str, Record] = {}
        for record in run.records:
            if record.boundary in boundaries and (
                record.boundary not in worst or not record.rel_l2 <= worst[record.boundary].rel_l2
            ):
                worst[record.boundary] = record
        for boundary, record in worst.items():
            for figure in ("verdict", *RECORDED, "floor_rel_l2"):
                self._record_property(f"{boundary}.{figure}", getattr(record, figure))
