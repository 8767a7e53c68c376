# SPDX-License-Identifier: Apache-2.0
"""A run as Markdown that fits a comment on a pull request: the verdict first, what is long folded away."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tttdebug.reporting.findings import records_text, sentence_of
from tttdebug.reporting.palette import style_of
from tttdebug.reporting.summary import failing_boundaries, missed_limits, summary_of, worst_comparisons
from tttdebug.reporting.wording import call_of, clipped, correlation, printable, size, times

if TYPE_CHECKING:
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.analysis.finding import Finding
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

LONGEST = 60_000
"""Bytes; GitHub takes comments of 65,536 characters."""

_WORST, _FINDINGS, _FAILING, _REASONS, _LINES = 10, 5, 60, 12, 8  # how many are told of
_TEXT, _NAME = 400, 100  # characters of a sentence and of a name
_LEFT_OUT = "\n*More does not fit into a comment; `tttdebug report --format html` has all of it.*\n"
_MARKS = {"PASS": "✅", "FAIL": "❌", "INCOMPLETE": "⚠️"}

_HARMLESS = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_ACTIVE = re.compile(r"[\\`*\[\]<>&|@$~#]|(?<!\w)_|_(?!\w)|:(?=[\w+-]+:|//)|(?<=\bwww)\.", re.ASCII)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown_report(run: Run, explanation: Explanation | None) -> str:
    """At most 60 kB: a part that does not fit any more is left out, and that is said."""
    parts, left = [], LONGEST - len(_LEFT_OUT.encode())
    everything = True
    for section in _sections(run, explanation):
        size_of_section = len(section.encode())
        if size_of_section <= left:
            parts.append(section)
            left -= size_of_section
        else:
            everything = False
    return "".join(parts) + ("" if everything else _LEFT_OUT)


def prose(text: str, longest: int = _TEXT) -> str:
    """`text` of a run in one line, in which Markdown and GitHub read nothing: no markup, cell border or mention."""
    return _ACTIVE.sub(lambda found: _entity(found[0]), clipped(printable(text), longest))


def code(text: str, longest: int = _NAME) -> str:
    """The same as code; an empty text is a dash."""
    text = clipped(printable(text), longest)
    if not text or _HARMLESS.fullmatch(text):
        return f"`{text}`" if text else "–"
    return f"<code>{prose(text, longest)}</code>"


def _entity(character: str) -> str:
    return _ENTITIES.get(character, f"&#{ord(character)};")


def _sections(run: Run, explanation: Explanation | None) -> Iterator[str]:
    manifest, summary = run.manifest, summary_of(run, explanation)
    yield f"### {_MARKS[summary.outcome]} {summary.outcome}: {prose(summary.headline)}\n\n"
    yield f"{' '.join(map(prose, summary.sentences))}\n\n"
    device = f"{manifest.device.get('kind', '')} {manifest.device.get('engine', '')}".strip()
    facts = filter(None, (str(manifest.model.get("name", "")), manifest.precision, device))
    yield f"{', '.join(code(fact) for fact in facts)}\n\n"
    findings = list(explanation or ())
    for place, finding in enumerate(findings[:_FINDINGS], start=1):
        yield _finding(finding, place, len(findings))
    if len(findings) > _FINDINGS:
        yield f"{len(findings) - _FINDINGS} more findings: `tttdebug report --format html`.\n\n"
    if run.records:
        yield _table_of_worst(worst_comparisons(run, _WORST), len(run.records))
    yield _ledger(run)
    yield from _reasons(run)
    yield _tokens(run)
    yield from _failing(run)
    yield from _weights(run)
    yield from _notes([*manifest.notes, *(explanation.notes if explanation else ())])
    yield _about(run)


def _finding(finding: Finding, place: int, count: int) -> str:
    title = f"#### Finding {place} of {count}: {code(finding.boundary)} {prose(finding.cause)}"
    lines = [f"{title}\n\n{prose(sentence_of(finding))}\n\n"]
    if finding.fix is not None:
        change = prose(finding.fix.says)
        change += f", {code(finding.fix.code, _TEXT)}" if finding.fix.code else ""
        settings = json.dumps(dict(finding.fix.settings)) if finding.fix.settings else ""
        change += f"; `decoder_config.json`: {code(settings, _TEXT)}" if settings else ""
        lines.append(f"- **Change**: {change}\n")
    lines += [f"- Evidence: {prose(str(experiment))}\n" for experiment in finding.experiments[:_LINES]]
    lines += [f"- Where: {prose(where)}\n" for where in finding.where[:_LINES]]
    if not math.isnan(finding.share):
        lines.append(f"- {finding.share:.0%} of the final error is gone with the reference's module in its place\n")
    if finding.module:
        lines.append(f"- Module: {code(finding.module)} beside {code(finding.reference_path)}\n")
    if finding.records:
        lines.append(f"- Shown by: {prose(records_text(finding.records))}\n")
    nearest = [f"{tried.cause}: {tried.says} (rel_l2 {size(tried.rel_l2)} left)" for tried in finding.candidates]
    lines += [f"- {'Also tried' if finding.confirmed else 'Nearest'}: {prose(tried)}\n" for tried in nearest[:_LINES]]
    return "".join(lines) + "\n"


def _table(columns: Sequence[str], right: int, rows: Sequence[Sequence[str]]) -> str:
    """The last `right` columns are numbers."""
    left = len(columns) - right
    head = f"| {' | '.join(columns)} |\n|{'|'.join(['---'] * left + ['--:'] * right)}|\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n"


def _table_of_worst(records: Sequence[Record], total: int) -> str:
    rows = [
        (
            code(record.boundary),
            call_of(record),
            _verdict(record.verdict),
            correlation(record.pcc),
            size(record.rel_l2),
            size(record.floor_rel_l2),
            times(record.above_floor),
            size(record.slope),
        )
        for record in records
    ]
    columns = ("boundary", "call", "verdict", "pcc", "rel_l2", "floor", "× floor", "slope")
    return f"**Worst {len(rows)} of {total:,} comparisons**\n\n{_table(columns, 5, rows)}"


def _verdict(verdict: str) -> str:
    return f"{style_of(verdict).symbol} {prose(verdict, _NAME)}"


def _ledger(run: Run) -> str:
    manifest = run.manifest
    tally = Counter(record.verdict for record in run.records)
    counts = ", ".join(f"{count:,} {prose(verdict, _NAME)}" for verdict, count in tally.most_common(_LINES))
    return (
        f"**Ledger**: {manifest.expected:,} expected, {len(run.records):,} compared ({counts or 'none'}), "
        f"{len(manifest.skipped):,} skipped, {len(manifest.unpaired):,} modules unpaired.\n\n"
    )


def _reasons(run: Run) -> Iterator[str]:
    manifest = run.manifest
    reasons = Counter(f"skipped: {entry.reason}" for entry in manifest.skipped)
    reasons.update(f"unpaired in the {entry.side}: {entry.reason}" for entry in manifest.unpaired)
    if reasons:
        shown = reasons.most_common(_REASONS)
        rows = [(prose(reason), f"{count:,}") for reason, count in shown]
        if len(reasons) > len(shown):
            others = sum(reasons.values()) - sum(count for _, count in shown)
            rows.append((f"{len(reasons) - len(shown)} other reasons", f"{others:,}"))
        yield _details("Why something was not compared", _table(("reason", "times"), 1, rows))


def _tokens(run: Run) -> str:
    lines = [
        f"- {prose(phase, _NAME)}: top-1 {agreed['top1']:.1%}, top-5 {agreed['top5']:.1%}, "
        f"KL {size(agreed['kl_mean'])} over {agreed['tokens']:,} tokens\n"
        for phase, agreed in run.manifest.agreement.items()
    ]
    return f"**Tokens** on which both sides agree\n\n{''.join(lines)}\n" if lines else ""


def _failing(run: Run) -> Iterator[str]:
    failing = failing_boundaries(run)
    if not failing:
        return
    rows = [
        (
            code(one.boundary),
            f"{one.failed} of {one.calls}",
            prose(missed_limits(one.worst)) if one.worst.failed else "only alone",
            times(one.alone.above_floor) if one.alone is not None else "–",
        )
        for one in failing[:_FAILING]
    ]
    title = f"{len(failing)} boundaries that fail" + (f", the first {_FAILING}" if len(failing) > _FAILING else "")
    yield _details(title, _table(("boundary", "calls", "limits missed in the worst", "alone, × floor"), 1, rows))


def _weights(run: Run) -> Iterator[str]:
    faults = run.manifest.weights.get("faults", ())
    if faults:
        rows = [
            (code(fault["source"]), code(fault["path"]), prose(fault["status"], _NAME), prose(fault["detail"]))
            for fault in faults[:_REASONS]
        ]
        more = f", the first {_REASONS}" if len(faults) > _REASONS else ""
        title = f"{len(faults)} weights that are not the checkpoint's{more}"
        yield _details(title, _table(("in the checkpoint", "in the port", "is", "what"), 0, rows))


def _notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        more = f"- and {len(notes) - _REASONS} more\n" if len(notes) > _REASONS else ""
        yield _details(f"{len(notes)} notes", "".join(f"- {prose(note)}\n" for note in notes[:_REASONS]) + more + "\n")


def _about(run: Run) -> str:
    manifest = run.manifest
    described = {
        "reproduce": manifest.command_again,
        "run": str(run.path),
        "created": manifest.created,
        "reference": manifest.model.get("source", ""),
        "weights digest": manifest.model.get("weights_digest", ""),
        **{f"device {name}": value for name, value in manifest.device.items()},
        **manifest.versions,
    }
    rows = [(prose(name, _NAME), code(str(value), _TEXT)) for name, value in described.items() if value]
    return _details("How it was made", _table(("", ""), 0, rows))


def _details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}</details>\n\n"
