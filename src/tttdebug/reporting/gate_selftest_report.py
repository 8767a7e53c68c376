# SPDX-License-Identifier: Apache-2.0
"""The self-test of a gate on the console and as JUnit: each fault, what it did, and whether the gate saw it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from rich.console import Console, Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tttdebug.reporting import console
from tttdebug.reporting.gate_report import gate_text
from tttdebug.reporting.junit import add_case, add_failure, add_property, write_suite

if TYPE_CHECKING:
    from tttdebug.gate_selftest_job import GateSelftest, Outcome

_WIDTH = 180


def print_gate_selftest(result: GateSelftest) -> None:
    """The report on the console, wide where it goes into a file or a pipe."""
    out = console.OUT if console.OUT.is_terminal else Console(highlight=False, width=_WIDTH)
    out.print(gate_selftest_report(result))


def gate_selftest_report(result: GateSelftest) -> RenderableType:
    """All that `tttdebug gate --selftest` prints."""
    if not result.sound.passed:
        return Text(
            f"{gate_text(result.sound)}\nno self-test: the run without a fault fails this gate, and a gate that fails "
            "everything catches everything"
        )
    parts: list[RenderableType] = [_table(result), Text("\n".join(("", *_summary(result))))]
    if result.proposal:
        parts += [Text(""), Syntax(result.proposal, "toml", background_color="default")]
    return Group(*parts)


def verdict_of(outcome: Outcome) -> str:
    """`caught`, `UNSEEN`, or `may pass`: of such a class, or no worse than the number formats."""
    return "caught" if outcome.caught else "UNSEEN" if outcome.unseen else "may pass"


def _table(result: GateSelftest) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("class", "fault", "at", "worst in", "rel_l2", "without", "of floor", "", "by"):
        right = heading in ("rel_l2", "without", "of floor")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "by")
    styles = {"caught": "green", "UNSEEN": "bold red", "may pass": "yellow"}
    for outcome in sorted(result.outcomes, key=lambda outcome: (not outcome.unseen, outcome.of_class)):
        verdict = verdict_of(outcome)
        table.add_row(
            outcome.of_class,
            outcome.fault,
            outcome.boundary,
            outcome.phase if outcome.phase == "prefill" else f"decode {outcome.step}",
            "not finite" if math.isnan(outcome.rel_l2) else f"{outcome.rel_l2:.3g}",
            f"{outcome.sound_rel_l2:.3g}",
            _of_floor(outcome),
            Text(verdict, styles[verdict]),
            Text(_why(outcome)),
        )
    return table


def _of_floor(outcome: Outcome) -> str:
    ratio = outcome.rel_l2 / outcome.floor_rel_l2 if outcome.floor_rel_l2 > 0 else math.nan
    return "·" if math.isnan(ratio) else f"{ratio:.3g}"


def _why(outcome: Outcome) -> str:
    if outcome.caught:
        more = f" (and {outcome.missed - 1} more)" if outcome.missed > 1 else ""
        return f"{outcome.by[0]}{more}"
    if not outcome.matters:
        return f"within what the number formats explain, rel_l2 {outcome.explained_rel_l2:.3g}"
    if outcome.tighter is None:
        return "no limit tells it from the sound run"
    limit = outcome.tighter
    return f"would be caught by {limit.pattern} {limit.phase}: {limit.metric} = {limit.limit:g}"


def _summary(result: GateSelftest) -> Iterator[str]:
    must = [outcome for outcome in result.outcomes if outcome.must_be_caught]
    caught = sum(outcome.caught for outcome in result.outcomes)
    passed_rightly = sum(verdict_of(outcome) == "may pass" for outcome in result.outcomes)
    verdict = "PASS" if result.passed else "FAIL"
    yield (
        f"{verdict}  {caught} of {len(result.outcomes)} faults caught; of {len(must)} that must be, "
        f"{len(result.unseen)} unseen; {passed_rightly} let through that may pass"
    )
    if not must:
        yield "nothing is proved: no fault that was drawn must be caught; draw more with --faults, or other --classes"
    yield f"thresholds  {result.thresholds}; {result.run}; seed {result.seed}"
    for name, why in result.not_tried:
        yield f"not tried   {name}: {why}"
    for outcome in result.unseen:
        yield f"UNSEEN      {outcome.fault}@{outcome.boundary} --seed {outcome.seed}"
    if result.unseen:
        yield f"to see one: {result.command or 'tttdebug run …'}, with another --out, and --inject FAULT@AT --seed SEED"
    if result.proposal:
        yield (
            f"these thresholds, at the end of the file, let the sound run pass and catch {result.mended} of the "
            f"{len(result.unseen)} unseen (its worst values, and half as much again):"
        )


def write_selftest_junit(result: GateSelftest, path: Path) -> None:
    """A test case a fault. Raises RunError where the file cannot be written."""
    suite = ElementTree.Element("testsuite", name="tttdebug gate --selftest")
    name = f"tttdebug.gate.selftest.{result.sound.model}"
    sound = add_case(suite, name, "the run without a fault passes")
    if not result.sound.passed:
        add_failure(sound, "the run without a fault fails this gate", gate_text(result.sound))
    for outcome in result.outcomes:
        case = add_case(suite, name, f"{outcome.fault} at {outcome.boundary}")
        properties = ElementTree.SubElement(case, "properties")
        for metric in ("rel_l2", "sound_rel_l2", "floor_rel_l2", "explained_rel_l2"):
            add_property(properties, metric, f"{getattr(outcome, metric):.9g}")
        add_property(properties, "verdict", verdict_of(outcome))
        if outcome.unseen:
            add_failure(case, "the gate does not see this fault", _why(outcome))
    write_suite(suite, path)
