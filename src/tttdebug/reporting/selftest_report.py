# SPDX-License-Identifier: Apache-2.0
"""A self-test on the console: what was reached, beside usual practice; what was taken for what; what was missed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tttdebug.reporting import console
from tttdebug.selftest_job import TARGETS, Outcome, SelftestResult

_HEADINGS = {
    "detected": "detected",
    "module": "module first",
    "cause": "cause first",
    "cause_in_three": "in three",
    "false_alarms": "false alarms",
}
_WIDTH = 180
_EFFECTS = ((1, 3), (3, 10), (10, math.inf))


def print_selftest(result: SelftestResult) -> None:
    """The report on the console, wide where it goes into a file or a pipe."""
    out = console.OUT if console.OUT.is_terminal else Console(highlight=False, width=_WIDTH)
    out.print(selftest_report(result))


def selftest_report(result: SelftestResult) -> RenderableType:
    """The whole report. Every case in it can be repeated by its number."""
    head = Text(
        f"seed {result.seed}: {len(result.faults)} faults, {len(result.harmless)} harmless changes; "
        f"{result.too_small} faults were drawn again, being too small to matter\n"
    )
    return Group(head, _shares(result), Text(""), _confusion(result.faults), *_missed(result.outcomes))


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=not place)
    return table


def _shares(result: SelftestResult) -> Table:
    table = _table("what is found", "", "cases", *_HEADINGS.values())
    shares = result.shares()
    table.add_row("tttdebug explain", str(len(result.faults)), *(_judged(name, shares[name]) for name in _HEADINGS))
    table.add_row(
        "target", "", *(f"{'≤' if name == 'false_alarms' else '≥'} {TARGETS[name]:.0%}" for name in _HEADINGS)
    )
    for practice in result.practices:
        usual = result.usual(practice)
        table.add_row(practice, "", *(_percent(usual[name]) if name in usual else "·" for name in _HEADINGS))
    for level in dict.fromkeys(outcome.level for outcome in result.faults):
        _add_part(table, result, f"  {level}", [o for o in result.faults if o.level == level])
    for low, high in _EFFECTS:
        name = f"  effect {low} to {high:g} × formats" if high < math.inf else f"  effect above {low} × formats"
        _add_part(table, result, name, [o for o in result.faults if low <= o.effect < high or o.effect == high])
    return table


def _add_part(table: Table, result: SelftestResult, name: str, outcomes: list[Outcome]) -> None:
    if outcomes:
        shares = result.shares(outcomes) | {"false_alarms": math.nan}
        table.add_row(name, str(len(outcomes)), *(_percent(shares[column]) for column in _HEADINGS))


def _judged(name: str, share: float) -> str:
    missed = share > TARGETS[name] if name == "false_alarms" else share < TARGETS[name]
    return f"[red]{_percent(share)}" if missed else f"[green]{_percent(share)}"


def _percent(share: float) -> str:
    return "·" if math.isnan(share) else f"{share:.1%}"


def _confusion(faults: Iterable[Outcome]) -> Table:
    """A row a fault: what its causes are taken for, the right ones first."""
    table = _table("what is taken for what", "fault", "cases", "right", "named instead")
    by_name: dict[str, list[Outcome]] = {}
    for outcome in sorted(faults, key=lambda outcome: outcome.name):
        by_name.setdefault(outcome.name, []).append(outcome)
    for name, outcomes in by_name.items():
        right = sum(outcome.cause_named for outcome in outcomes)
        named = Counter(_named(outcome) for outcome in outcomes if not outcome.cause_named)
        instead = ", ".join(f"{cause} {count}" for cause, count in named.most_common())
        table.add_row(name, str(len(outcomes)), str(right), instead)
    return table


def _named(outcome: Outcome) -> str:
    if not outcome.detected:
        return "(raised)" if outcome.error else "(not detected)"
    return outcome.causes[0] if outcome.causes else "(unknown)"


def _missed(outcomes: Iterable[Outcome]) -> list[RenderableType]:
    missed = [outcome for outcome in outcomes if outcome.missed]
    if not missed:
        return []
    table = _table("what to look at (repeat one alone with its number)", "case", "", "at", "said", "effect", "on")
    for outcome in missed:
        said = f"{outcome.found or '-'}: {', '.join(outcome.causes[:3]) or _named(outcome)}"
        place = outcome.places[0] if outcome.places else "harmless"
        effect = f"{outcome.effect:.1f}" if outcome.is_fault else ""
        table.add_row(str(outcome.seed), outcome.name, place, said, effect, str(outcome.setting))
    errors = [Text(f"\ncase {outcome.seed} raised\n{outcome.error}") for outcome in missed if outcome.error]
    return [Text(""), table, *errors]
