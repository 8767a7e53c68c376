# SPDX-License-Identifier: Apache-2.0
"""Findings on the console: each as a sentence with its numbers, then what shows it and the change that mends it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tttdebug.analysis.explanation import Explanation
from tttdebug.analysis.finding import COUNT
from tttdebug.reporting.audit_table import faults_text
from tttdebug.reporting.console import OUT, divergence_text
from tttdebug.reporting.format_costs import format_costs

if TYPE_CHECKING:
    from tttdebug.analysis.finding import Experiment, Finding, Fix
    from tttdebug.tracking.record import Key
    from tttdebug.tracking.run import Run

_COSTS, _RECORDS = 4, 6  # how many are named
_LEGEND = "rel_l2: ‖port − reference‖ / ‖reference‖; floor: the rel_l2 that the number formats cause by themselves"


def print_explanation(explanation: Explanation, *, quiet: bool = False) -> None:
    """The findings, ranked; where there is none, that nothing is wrong and what the number formats cost.

    Quietly, what they come to alone.
    """
    OUT.print(verdict_text(explanation) if quiet else explanation_view(explanation))


def explanation_view(explanation: Explanation) -> RenderableType:
    """The same to be drawn elsewhere."""
    parts: list[RenderableType] = [Text()]
    count = len(explanation)
    parts += [finding_panel(finding, place, count) for place, finding in enumerate(explanation, start=1)]
    if count:
        parts.append(Text(_LEGEND, style="dim"))
    parts.append(verdict_text(explanation))
    if not explanation.detected:
        parts += [Text("What the formats cost:"), costs_table(explanation.run)]
    parts += [Text(f"note: {note}", style="yellow") for note in explanation.notes]
    return Group(*parts)


def verdict_text(explanation: Explanation) -> Text:
    """What the findings come to, in one or two sentences."""
    run = explanation.run
    if explanation.findings:
        first, more = explanation[0], len(explanation) - 1
        text = Text("FOUND  ", style="bold red")
        text.append(f"{first.boundary}: {first.cause}" if first.confirmed else f"{first.boundary} errs by itself")
        if more:
            text.append(f", and {more} more finding{'s' if more > 1 else ''}")
        unconfirmed = sum(not finding.confirmed for finding in explanation)
        if unconfirmed:
            text.append(f"; {unconfirmed} of {len(explanation)} without a confirmed cause")
        return text.append(".")
    if explanation.detected:
        text = Text("NOT EXPLAINED  ", style="bold red")
        if run.failed:
            first_failed = run.failed[0]
            return text.append(
                f"{len(run.failed)} comparisons fail, {first_failed.boundary} first, but no module errs when it is "
                "fed with the reference's input: the error arises between the modules that are compared."
            )
        if run.manifest.wrong_weights:
            return text.append(f"no module errs more than its number formats let it, but {run.manifest.wrong_weights}.")
        return text.append(f"the run itself did not pass: {run.manifest.status}.")
    return Text("NOTHING WRONG  ", style="bold green").append(
        "every module, run alone on the reference's input, gives what its number formats let it give."
    )


def finding_panel(finding: Finding, place: int, count: int) -> Panel:
    """One finding: the sentence, the evidence, the place, the change, and which records show it."""
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for label, value in _rows(finding):
        grid.add_row(label, value)
    title = f"{place} of {count}: {finding.boundary}, {finding.cause if finding.confirmed else 'cause not known'}"
    sentence = Text(sentence_of(finding), style="bold")
    return Panel(Group(sentence, grid), title=Text(title), title_align="left", border_style="red")


def sentence_of(finding: Finding) -> str:
    """The finding in one sentence, with the numbers that confirm it where they are errors."""
    said = finding.says if finding.says.startswith(finding.boundary) else f"{finding.boundary}: {finding.says}"
    if not finding.confirmed or not finding.experiments or finding.experiments[0].metric == COUNT:
        return said
    best = finding.experiments[0]
    floor = "" if math.isnan(best.floor) else f", where its number formats alone cause {best.floor:.3g}"
    return f"{said}; that accounts for its {best.metric} of {best.before:.3g} but for {best.after:.3g}{floor}"


def evidence_text(experiment: Experiment) -> str:
    """One experiment: the error before and after it, or what was counted and what should be."""
    if experiment.metric == COUNT:
        return f"{experiment.what}: {experiment.before:g}, and {experiment.floor:g} in a sound port"
    return str(experiment)


def _rows(finding: Finding) -> Iterator[tuple[str, RenderableType]]:
    """Label and text of what is known of a finding."""
    if finding.experiments:
        yield "evidence", Text("\n".join(map(evidence_text, finding.experiments)))
    if finding.where:
        yield "where", Text("\n".join(finding.where))
    if not math.isnan(finding.share):
        yield "share", Text(_share_text(finding.share))
    if finding.fix is not None:
        yield "change", fix_text(finding.fix)
    if finding.candidates:
        nearest = [f"{tried.cause}: {tried.says} (leaves rel_l2 {tried.rel_l2:.3g})" for tried in finding.candidates]
        yield "also tried" if finding.confirmed else "came nearest", Text("\n".join(nearest))
    if finding.module:
        beside = f" of the port, {finding.reference_path} of the reference" if finding.reference_path else ""
        yield "module", Text(f"{finding.module}{beside}")
    if finding.records:
        yield "shown by", Text(records_text(finding.records))


def _share_text(share: float) -> str:
    if share < 0:
        return f"the final error is {-share:.0%} greater with the reference's module in its place: errors cancel"
    return f"{share:.0%} of the final error is gone with the reference's module in its place"


def fix_text(fix: Fix) -> Text:
    """The change in words, and as code or settings."""
    text = Text(fix.says)
    if fix.code:
        text.append(f"\n{fix.code}", style="cyan")
    if fix.settings:
        text.append(f"\ndecoder_config.json: {json.dumps(dict(fix.settings))}", style="cyan")
    return text


def records_text(records: Sequence[Key]) -> str:
    """The calls in which the fault shows, as in `L01.mlp prefill, decode 0, 1; L01.v_cache prefill`."""
    calls: dict[tuple[str, str], list[int]] = {}
    users = {key.user for key in records}
    for key in records:
        steps = calls.setdefault((key.boundary, key.phase), [])
        if key.step not in steps:
            steps.append(key.step)
    parts = [
        f"{boundary} {phase}" + (f" {_numbers(steps)}" if phase == "decode" else "")
        for (boundary, phase), steps in calls.items()
    ]
    more = f"; and {len(parts) - _RECORDS} more" if len(parts) > _RECORDS else ""
    of_users = f" (users {_numbers(sorted(users))})" if len(users) > 1 else ""
    return "; ".join(parts[:_RECORDS]) + more + of_users


def _numbers(numbers: Iterable[int]) -> str:
    """Numbers in order, runs of them by their ends: 0 to 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def costs_table(run: Run) -> Table:
    """What the number formats cost each kind of module, the dearest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (("module", "left"), ("median rel_l2", "right"), ("floor", "right"), ("worst", "left")):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("formats", overflow="fold")
    for cost in format_costs(run)[:_COSTS]:
        worst = f"{cost.worst} {cost.worst_rel_l2:.2g}"
        table.add_row(cost.kind, f"{cost.rel_l2:.2g}", f"{cost.floor:.2g}", worst, cost.formats)
    return table


def print_known(run: Run) -> None:
    """What a run's files alone say, where nothing can be run again: earlier findings, the first divergence, costs."""
    saved = Explanation.load(run)
    if saved is not None:
        OUT.print(Text("found by an earlier explanation:", style="dim"), explanation_view(saved))
        return
    if (faults := faults_text(run.manifest.weights)) is not None:
        OUT.print(faults)
    divergence = run.first_divergence()
    if divergence is not None:
        OUT.print(Panel(divergence_text(run, divergence), title="first divergence", border_style="red"))
    if run.records:
        OUT.print(Text("errors of the boundaries that hold, beside their floors:"), costs_table(run))
