# SPDX-License-Identifier: Apache-2.0
"""A gate's result on the console: the verdict, the ledger, and each failure with where it sits."""

from __future__ import annotations

from collections.abc import Iterator
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


def miss_text(miss: Miss) -> str:
    """A failure: what misses which limit, whose limit it is, and where in the tensor the error sits."""
    lines = [f"{call_text(miss.key)}: {miss.says}"]
    if miss.where:
        lines.append(miss.where)
    lines.append("; ".join(filter(None, (miss.about, miss.threshold and f"limit of {miss.threshold}"))))
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
    for miss in result.misses[:failures_shown]:
        yield miss_text(miss)
    if (more := len(result.misses) - failures_shown) > 0:
        yield f"and {_counted(more, 'more limit')} missed; --json and --junit have them all"
    if not result.passed:
        yield f"reproduce: {result.command or 'the run does not say by which command it was made'}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
