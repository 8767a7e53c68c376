# SPDX-License-Identifier: Apache-2.0
"""How numbers, names and verdicts read. Names and texts of a run are untrusted: they pass through `plain` or `code`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from data import QUIET_SECONDS, is_live, outcome
from tttdebug.reporting.palette import VERDICTS, looks_like, style_of
from tttdebug.reporting.wording import size, times
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record

_HARMLESS = re.compile(r"(?!www\.)[A-Za-z0-9]+(?:(?:[._-]|(?<=\d)[ :](?=\d))[A-Za-z0-9]+)*")


def code(text: str) -> str:
    """`text` as a Markdown code span, in which nothing is interpreted."""
    text = " ".join(text.split())
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"


def plain(text: str) -> str:
    """`text` as ordinary Markdown text where no character of it means anything to Markdown, else as a code span."""
    return text if _HARMLESS.fullmatch(text) else code(text)


def pcc(value: float) -> str:
    return f"{value:.6f}" if math.isfinite(value) else str(value)


def steps(value: float) -> str:
    """A distance in bfloat16 steps."""
    return f"{value:,.0f}"


def share(value: float) -> str:
    return f"{value:.1%}"


def moment(created: str) -> str:
    """The day and the minute of an ISO date; what is no date stays as it is."""
    try:
        return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return created


def call_name(phase: str, step: int) -> str:
    """One call of the model in words; prefill is one call unless it is cut in pieces."""
    return phase if phase == "prefill" and step == 0 else f"{phase} {step}"


def verdict_label(verdict: str) -> str:
    """The verdict with its symbol, as text."""
    return f"{style_of(verdict).symbol} {verdict}"


def verdict_mark(verdict: str) -> str:
    """The verdict's symbol in its colour, as Markdown."""
    style = style_of(verdict)
    return f":{style.hue}[{style.symbol}]"


def verdict_tally(verdicts: Iterable[str]) -> str:
    """How many records have which verdict, as Markdown; the legend of every chart, too."""
    counts = Counter(map(looks_like, verdicts))
    return "&emsp;".join(
        f"{verdict_mark(verdict)} {counts[verdict]:,} {verdict}" for verdict in VERDICTS if verdict in counts
    )


def headline(run: OpenedRun) -> str:
    """The answer to "is it good?", as Markdown."""
    first = run.first_divergence()
    if first is not None:
        return f"{verdict_mark(first.verdict)} The port diverges, first at {plain(first.boundary)}"
    if not run.records:
        return "Nothing has been compared"
    return {
        "passed": f"{verdict_mark('ok')} The port follows its reference",
        "failed": f"{verdict_mark('diverged')} Nothing diverges, but weights of the port are not the checkpoint's",
        "incomplete": f"{verdict_mark('skipped')} Nothing diverges, but not everything was compared",
        "unfinished": f"{verdict_mark('skipped')} Nothing diverges so far",
    }[outcome(run)]


def incompleteness(run: OpenedRun) -> str:
    """Why a run that is not finished is not, as Markdown."""
    status = run.manifest.status
    why = (
        f"This run was cut short by an error: {code(status.removeprefix('failed: '))}."
        if status.startswith("failed: ")
        else "This run is still being written; the page follows it."
        if is_live(run.path, status)
        else f"This run is unfinished, and nothing was written for {QUIET_SECONDS / 60:.0f} minutes: its process has "
        "probably been ended."
    )
    return f"{why} Shown is what there is: {len(run.records):,} of {run.manifest.expected:,} comparisons."


def explanation(run: OpenedRun) -> str:
    """One or two sentences under the headline, as Markdown."""
    first, total = run.first_divergence(), len(run.records)
    if first is not None:
        return f"{len(run.failed):,} of {total:,} comparisons fail. The first: {sentence(first)}"
    if not run.records:
        return "The run holds no record."
    at_floor = int((run.records.column("verdict") == "floor").sum())
    wrong = f"{code(run.manifest.wrong_weights)}. " if run.manifest.wrong_weights else ""
    if not at_floor:
        return f"{wrong}All {total:,} comparisons hold their gates."
    return (
        f"{wrong}{total - at_floor:,} of {total:,} comparisons hold their gates, {at_floor:,} miss them by no more "
        "than the number formats cause (floor)."
    )


def layer_sentence(records: Sequence[Record]) -> str:
    """What the boundaries of one layer say together, as Markdown."""
    failed = [record.boundary for record in records if record.failed]
    if not failed:
        return "No boundary here fails."
    others = "" if len(failed) == 1 else f", the first is {plain(failed[0])}"
    return f"{len(failed)} of {len(records)} boundaries fail{others}."


def sentence(record: Record) -> str:
    """What one record says, as Markdown."""
    where = f"{plain(record.boundary)} in {plain(record.phase)}" + (f" {record.step}" if record.step else "")
    if record.verdict == "nonfinite":
        total = math.prod(record.shape)
        return (
            f"{where} holds inf or NaN: {record.nonfinite_port:,} of {total:,} values in the port, "
            f"{record.nonfinite_reference:,} in the reference."
        )
    if math.isnan(record.rel_l2):
        return f"{where} could not be compared: {style_of(record.verdict).meaning}."
    ratio = record.above_floor
    floor = f", {times(ratio)} its floor of {size(record.floor_rel_l2)}" if math.isfinite(ratio) else ""
    return f"{where} has rel L2 {size(record.rel_l2)}{floor}, and PCC {pcc(record.pcc)}."
