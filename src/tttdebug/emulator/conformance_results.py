# SPDX-License-Identifier: Apache-2.0
"""What replaying recordings came to: a result a case and engine, and a family's verdict on each engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tttdebug.emulator.agreement import Agreement, pool
from tttdebug.emulator.conformance_targets import ATTENTION, MATMUL_FP32, ROWS, TARGETS, Target

# Why an engine falls short, where that lies in what it is.
_BY_DESIGN = {
    ("fast", MATMUL_FP32): "fast sums products in torch's order, not in the chip's groups of eight",
    ("fast", ROWS): "fast sums rows of exponentials in torch's order",
    ("fast", ATTENTION): "fast takes exponentials and sums into an fp32 Dest as torch does",
}


@dataclass(frozen=True)
class CaseResult:
    """One recording on one engine. `agreement` is None when it could not be replayed; `reason` then says why.

    `error_ratio` is that of a chain's boundary: the emulated error against the fp32 reference over the chip's.
    `unreachable` says why the engine, as it is made, cannot reach the target here; such a case is listed and does not
    decide about its family.
    """

    engine: str
    family: str
    file: str
    case: str
    op: str
    agreement: Agreement | None
    error_ratio: float | None = None
    reason: str = ""
    unreachable: str = ""

    @property
    def target(self) -> Target | None:
        return TARGETS[self.family].get(self.engine)

    @property
    def holds(self) -> bool:
        """Whether this case by itself reaches its family's target."""
        if self.agreement is None:
            return False
        return self.target is None or not self.target.misses(self.agreement, self.error_ratio)

    @property
    def shortfall(self) -> str:
        """What the case misses and why; empty when it holds."""
        if self.holds:
            return ""
        if self.agreement is None or self.target is None:
            return self.reason
        missed = self.target.misses(self.agreement, self.error_ratio)
        why = self.unreachable or self.reason or _BY_DESIGN.get((self.engine, self.family), "")
        return f"{missed}; {why}" if why else missed


@dataclass(frozen=True)
class FamilyResult:
    """A family on one engine; `agreement` pools the cases that decide. `not_run` says what could not be tried."""

    engine: str
    family: str
    cases: tuple[CaseResult, ...]
    agreement: Agreement | None
    holds: bool
    not_run: str = ""

    @property
    def target(self) -> Target | None:
        return TARGETS[self.family].get(self.engine)


@dataclass(frozen=True)
class NotRun:
    """Recordings that are in the folder and could not be tried at all."""

    family: str
    reason: str


def judge(cases: Sequence[CaseResult], not_run: Sequence[NotRun], engines: Sequence[str]) -> list[FamilyResult]:
    """A result per engine and family, in the table's order.

    A family holds when every case could be replayed and those that can reach the target do so together: each element
    counts once, and of each chain the mean over its boundaries (geometric) of the ratio of errors.
    """
    results = []
    for engine in engines:
        for family in TARGETS:
            own = tuple(case for case in cases if (case.engine, case.family) == (engine, family))
            untried = "; ".join(entry.reason for entry in not_run if entry.family == family)
            if own or untried:
                results.append(_judge_family(engine, family, own, untried))
    return results


def _judge_family(engine: str, family: str, cases: tuple[CaseResult, ...], not_run: str) -> FamilyResult:
    deciding = [case for case in cases if not case.unreachable]
    measured = [case.agreement for case in deciding if case.agreement is not None]
    pooled = pool(measured) if measured else None
    target = TARGETS[family].get(engine)
    complete = not not_run and all(case.agreement is not None for case in cases)
    reached = pooled is not None and (target is None or not target.misses(pooled))
    for chain in {case.file for case in deciding}:
        ratios = [case.error_ratio for case in deciding if case.file == chain and case.error_ratio is not None]
        if ratios and target is not None and pooled is not None:
            mean = math.exp(sum(math.log(max(ratio, 1e-9)) for ratio in ratios) / len(ratios))
            reached = reached and not target.misses(pooled, mean)
    return FamilyResult(engine, family, cases, pooled, complete and reached, not_run)
