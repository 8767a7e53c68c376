# SPDX-License-Identifier: Apache-2.0
"""What a run comes to, for every report alike: the outcome in words, and the boundaries that stand out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tttdebug.reporting.wording import call_of, counted
from tttdebug.tracking.run import ISOLATED

if TYPE_CHECKING:
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

Outcome = Literal["PASS", "FAIL", "INCOMPLETE"]


@dataclass(frozen=True)
class Summary:
    """The outcome, the answer in one line, and the sentences that stand behind it."""

    outcome: Outcome
    headline: str
    sentences: tuple[str, ...]


def summary_of(run: Run, explanation: Explanation | None) -> Summary:
    """Fail where something was found, a gate fails or a weight is wrong; else incomplete where something is missing."""
    divergence = run.first_divergence()
    sentences = tuple(_sentences(run, explanation))
    if explanation is not None and explanation.findings:
        first, others = explanation[0], len(explanation) - 1
        more = f" (and {counted(others, 'more finding')})" if others else ""
        fault = "is at fault" if first.confirmed else "errs by itself"
        return Summary("FAIL", f"{first.boundary} {fault}: {first.says}{more}", sentences)
    if divergence is not None:
        return Summary("FAIL", f"{divergence.boundary} in {call_of(divergence)} is the first to diverge", sentences)
    if run.manifest.wrong_weights:
        headline = "Nothing that was compared fails, but the port's weights are not the checkpoint's"
        return Summary("FAIL", headline, sentences)
    if not run.passed:
        return Summary("INCOMPLETE", "Nothing that was compared fails, but not everything was compared", sentences)
    return Summary("PASS", "The port follows its reference: every gate holds", sentences)


def _sentences(run: Run, explanation: Explanation | None) -> Iterable[str]:
    manifest, total = run.manifest, len(run.records)
    if not manifest.finished:
        status = manifest.status
        yield (
            f"The run was cut short, {status}; what it compared until then is here."
            if status.startswith("failed")
            else "The run is unfinished: it is still being written, or its process was ended."
        )
    if manifest.wrong_weights:
        yield f"{manifest.wrong_weights}."
    counts = Counter(record.verdict for record in run.records)
    if run.failed:
        first = run.failed[0]
        blame = "" if explanation is not None else "; those after it may only have inherited its error"
        where = f"{first.boundary} in {call_of(first)} first"
        yield f"{len(run.failed):,} of {counted(total, 'comparison')} fail, {where}{blame}."
    own = [record for record in run.experiments if record.failed]
    if own:
        boundaries = list(dict.fromkeys(record.boundary for record in own))
        named = ", ".join(boundaries[:3]) + (f" and {len(boundaries) - 3} more" if len(boundaries) > 3 else "")
        errs = "errs" if len(boundaries) == 1 else "err"
        yield f"Fed with the reference's input, {named} still {errs} above the floor."
    elif explanation is not None and not explanation.findings:
        yield (
            "No module errs when it is fed with the reference's input: the error arises between the modules compared."
            if run.failed
            else "Every module that was run alone gives what its number formats give."
        )
    if counts["floor"]:
        misses = "misses" if counts["floor"] == 1 else "miss"
        at_floor = counted(counts["floor"], "comparison")
        yield f"{at_floor} {misses} a gate by no more than the number formats cause (floor)."
    missing = manifest.expected - total
    if missing > 0:
        yield f"{missing:,} of {counted(manifest.expected, 'expected comparison')} were not made."
    if not total:
        yield "Nothing was compared."


@dataclass(frozen=True)
class FailingBoundary:
    """A boundary that fails: in how many of its calls, the worst of them, and the worst of its module alone."""

    boundary: str
    failed: int
    calls: int
    worst: Record
    alone: Record | None


def failing_boundaries(run: Run) -> list[FailingBoundary]:
    """In the order of execution, those that fail as the port ran or with their module alone."""
    alone: dict[str, Record] = {}
    for record in run.experiments:
        if record.mode == ISOLATED:
            alone[record.boundary] = worse(alone.get(record.boundary), record)
    calls: dict[str, list[Record]] = {}
    for record in run.records:
        calls.setdefault(record.boundary, []).append(record)
    for boundary, record in alone.items():
        calls.setdefault(boundary, [record])
    return [
        FailingBoundary(
            boundary,
            sum(record.failed for record in records),
            len(records),
            max(records, key=severity),
            alone.get(boundary),
        )
        for boundary, records in calls.items()
        if any(record.failed for record in records) or (boundary in alone and alone[boundary].failed)
    ]


def worst_comparisons(run: Run, most: int) -> list[Record]:
    """The comparisons of the port as it ran that are farthest above their floor, failing ones first."""
    return sorted(run.records, key=severity, reverse=True)[:most]


def severity(record: Record) -> tuple[bool, float]:
    """Failing ones first, then by how far above the floor; what could not be measured is the worst."""
    unmeasured = math.isnan(record.rel_l2)
    return record.failed, math.inf if unmeasured else record.rel_l2 if math.isnan(
        record.above_floor
    ) else record.above_floor


def worse(one: Record | None, other: Record) -> Record:
    return other if one is None or severity(other) > severity(one) else one


def missed_limits(record: Record) -> str:
    """What a failing record was judged by, each metric with its value and its limit."""
    if record.verdict == "nonfinite":
        values = math.prod(record.shape)
        return (
            f"non-finite of {values:,} values: {record.nonfinite_port:,} in the port, "
            f"{record.nonfinite_reference:,} in the reference"
        )
    explained = record.explained_rel_l2
    limit = f"{explained:.4g} (floor {record.floor_rel_l2:.4g})"
    floor = f"rel_l2 {record.rel_l2:.4g} > {limit}" if record.rel_l2 > explained else ""
    return "; ".join(filter(None, (record.note, floor))) or f"{record.verdict}: rel_l2 {record.rel_l2:.4g}"


def run_id(run: Run) -> str:
    """The name of its folder, by which the dashboard knows it too."""
    return run.path.resolve().name
