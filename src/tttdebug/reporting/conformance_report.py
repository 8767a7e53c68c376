# SPDX-License-Identifier: Apache-2.0
"""How true the emulator is, as a table on the console and as CSV with a row per case."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tttdebug.emulator.conformance_results import CaseResult, FamilyResult
from tttdebug.emulator.conformance_targets import percent
from tttdebug.reporting import console

_WIDTH = 160

_HEADINGS = ("family", "cases", "elements", "equal %", "≤ 1 ulp %", "max ulp", "rms %", "bias %", "target", "")
_COLUMNS = (
    "engine", "family", "file", "case", "op", "elements", "equal_percent", "within_one_ulp_percent", "greatest_ulp",
    "rms_percent", "bias_percent", "error_ratio", "target", "holds", "reason",
)  # fmt: skip


def print_conformance(folder: Path, families: Sequence[FamilyResult], listed: int) -> None:
    """The report on the console, wide where it goes into a file or a pipe."""
    out = console.OUT if console.OUT.is_terminal else Console(highlight=False, width=_WIDTH)
    out.print(conformance_report(folder, families, listed))


def conformance_report(folder: Path, families: Sequence[FamilyResult], listed: int) -> RenderableType:
    """A table per engine, then the cases that miss their target by themselves, at most `listed` a family."""
    parts: list[RenderableType] = [Text(f"recordings: {folder}")]
    for engine in dict.fromkeys(result.engine for result in families):
        own = [result for result in families if result.engine == engine]
        parts += [Text(""), _table(engine, own), *_shortfalls(own, listed)]
    return Group(*parts)


def _table(engine: str, families: Sequence[FamilyResult]) -> Table:
    table = Table(title=f"engine {engine}", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in _HEADINGS:
        wraps = heading in ("family", "target")
        table.add_column(
            heading,
            justify="left" if wraps or not heading else "right",
            no_wrap=not wraps,
            min_width=14 if wraps else None,
        )
    for result in families:
        figures = [""] * 6
        if result.agreement is not None:
            a = result.agreement
            figures = [f"{a.elements:,}", percent(a.equal)[:-2], percent(a.within_one_ulp)[:-2],
                       f"{a.greatest_ulp:.4g}", f"{100 * a.rms:.4f}", f"{100 * a.bias:+.4f}"]  # fmt: skip
        verdict = ("[green]holds" if result.holds else "[red]fails") if result.target or not result.holds else "·"
        target = str(result.target) if result.target else "none"
        table.add_row(result.family, str(len(result.cases)), *figures, target, verdict)
    return table


def _shortfalls(families: Sequence[FamilyResult], listed: int) -> list[Text]:
    lines = []
    for result in families:
        beyond = [case for case in result.cases if not case.holds and case.unreachable]
        short = [case for case in result.cases if not case.holds and not case.unreachable]
        if result.not_run:
            lines.append(Text(f"{result.family}: not run: {result.not_run}"))
        if short:
            lines.append(Text(f"{result.family}: {len(short)} of {len(result.cases)} cases miss it by themselves"))
        unjudged = sum(case.holds and bool(case.reason) for case in result.cases)
        if unjudged and result.target and result.target.error_ratio is not None:
            lines.append(Text(f"{result.family}: {unjudged} boundaries have no recorded reference and are not judged"))
        reasons = Counter(case.shortfall for case in short)
        shown = sorted(short, key=lambda case: reasons[case.shortfall] == 1)[:listed]
        lines += [Text(f"  {case.file}/{case.case}: {case.shortfall}") for case in shown]
        if len(short) > listed:
            lines.append(Text(f"  … and {len(short) - listed} more (--csv lists every case)"))
        lines += [Text(f"  cannot: {case.file}/{case.case}: {case.shortfall}") for case in beyond]
    return lines


def write_csv(path: Path, cases: Sequence[CaseResult]) -> None:
    """A row per case and engine."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for case in cases:
            a, figures = case.agreement, [""] * 6
            if a is not None:
                figures = [str(a.elements), f"{100 * a.equal:.6f}", f"{100 * a.within_one_ulp:.6f}",
                           f"{a.greatest_ulp:g}", f"{100 * a.rms:.6f}", f"{100 * a.bias:+.6f}"]  # fmt: skip
            ratio = "" if case.error_ratio is None else f"{case.error_ratio:.4f}"
            writer.writerow([case.engine, case.family, case.file, case.case, case.op, *figures, ratio,
                             case.target or "none", "yes" if case.holds else "no",
                             case.shortfall or case.reason])  # fmt: skip
