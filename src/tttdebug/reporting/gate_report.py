# SPDX-License-Identifier: Apache-2.0
"""A gate's result on the console: the verdict, the ledger, and each failure with where it sits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tttdebug.testing.gate_result import GateResult, Ledger, Miss
    from tttdebug.tracking.record import Key

FAILURES_SHOWN = 20


def gate_text(result: GateResult, failures_shown: int = FAILURES_SHOWN) -> str:
    """All that `tttdebug gate` prints, as lines of plain text."""
    return "\n".join(_lines(result, failures_shown))


def verdict_line(result: GateResult) -> str:
    """PASS or FAIL, and how many of what."""
    ledger = result.ledger
    if result.passed:
        excused = f"; {ledger.excused} of them by their floor" if ledger.excused else ""
        return f"PASS  all {ledger.compared} comparisons hold every limit{excused}"
    parts = []
    if result.misses:
        parts.append(f"{ledger.failed} of {ledger.compared} comparisons miss a limit")
    if result.objections:
        parts.append(f"the ledger has {_counted(len(result.objections), 'objection')}")
    return f"FAIL  {'; '.join(parts)}"


def by_record(misses: Iterable[Miss]) -> list[list[Miss]]:
    """Misses of one record together, in the order in which the records come."""
    records: dict[Key, list[Miss]] = {}
    for miss in misses:
        records.setdefault(miss.key, []).append(miss)
    return list(records.values())


def record_text(misses: Sequence[Miss]) -> str:
    """All that one record misses: which limits, whose they are, and where in the tensor the error sits."""
    first = misses[0]
    places = dict.fromkeys(f"limit of {miss.threshold}" for miss in misses if miss.threshold)
    lines = [f"{call_text(first.key)}: {'; '.join(miss.says for miss in misses)}"]
    if first.where:
        lines.append(first.where)
    lines.append("; ".join((first.about, *places)))
    return "\n  ".join(lines)


def call_text(key: Key) -> str:
    """A boundary with the call it is in: `L07.mlp in decode 3, user 0`."""
    call = key.phase if key.phase == "prefill" else f"{key.phase} {key.step}"
    mode = "" if key.mode == "accumulated" else f", {key.mode}"
    return f"{key.boundary} in {call}, user {key.user}{mode}"


def ledger_line(ledger: Ledger) -> str:
    """The ledger in one line."""
    skipped = f"{len(ledger.skipped)} skipped" + (f" ({ledger.allowed} allowed)" if ledger.allowed else "")
    return (
        f"{ledger.expected} expected, {ledger.compared} compared, {skipped}, {ledger.failed} failed, "
        f"{ledger.excused} excused by their floor, {ledger.unpaired} modules unpaired"
    )


def _lines(result: GateResult, failures_shown: int) -> Iterator[str]:
    yield verdict_line(result)
    yield f"ledger      {ledger_line(result.ledger)}"
    for reason, count in result.ledger.reasons.items():
        yield f"skipped     {count}: {reason}"
    for said in result.ledger.set_aside:
        yield f"set aside   {said}"
    yield f"thresholds  {result.thresholds}, sha256 {result.thresholds_digest[:16]}"
    yield f"reference   {result.model}, sha256 {result.reference_digest or 'unknown'}"
    yield f"run         {result.run}"
    for objection in result.objections:
        yield f"objection   {objection}"
    records = by_record(result.misses)
    yield from map(record_text, records[:failures_shown])
    if (more := len(records) - failures_shown) > 0:
        yield f"and {_counted(more, 'more comparison')} with missed limits; --json and --junit have them all"
    if not result.passed:
        yield f"reproduce: {result.command or 'the run does not say by which command it was made'}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
