# SPDX-License-Identifier: Apache-2.0
"""`tttdebug compare` and `baseline`: a run beside earlier ones, and the limits that no later one may exceed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    run: Annotated[Path, typer.Argument(help="The folder of the run to judge.")],
    baseline: Annotated[Path, typer.Argument(help="What it is held against: an earlier run, or a baseline file.")],
    more: Annotated[
        list[Path] | None, typer.Argument(help="Further runs or files; then a table with a column each is printed.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many boundaries to list, the worst change first.")] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Say what got better, worse, appeared or vanished in a run, beyond the noise, and what differs around it.

    Exit codes: 0 nothing is worse, 1 something is, or is no longer compared, 2 no result: other models or prompts.
    """
    from tttdebug.reporting import comparison_table, console
    from tttdebug.testing.across import across
    from tttdebug.testing.baseline_file import read_side
    from tttdebug.testing.comparing import compare_sides
    from tttdebug.testing.side import side_of_run

    sides = [side_of_run(run), *(read_side(path) for path in (baseline, *(more or ())))]
    comparisons = [compare_sides(sides[0], side) for side in sides[1:]]
    rows = across(sides) if more else ()
    if as_json:
        typer.echo(comparison_table.dumps(comparisons, rows))
    elif more:
        console.OUT.print(comparison_table.across_table(rows, [side.name for side in sides], worst))
        for comparison in comparisons:
            console.OUT.print(comparison_table.comparison_table(comparison, limit=0))
    else:
        console.OUT.print(comparison_table.comparison_table(comparisons[0], limit=worst))
    raise typer.Exit(1 if any(comparison.got_worse for comparison in comparisons) else 0)


def baseline(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[Path | None, typer.Option(help="Write a new baseline file.")] = None,
    update: Annotated[Path | None, typer.Option(help="Tighten the limits of this file; it loosens none.")] = None,
    propose: Annotated[
        Path | None, typer.Option(help="Print what --update would change in this file, as a unified diff.")
    ] = None,
    loosen: Annotated[
        bool, typer.Option("--loosen", help="With --update or --propose: take what is worse too; needs --why.")
    ] = False,
    patterns: Annotated[
        bool, typer.Option("--patterns", help="With --out: one limit for all layers, such as L*.mlp.")
    ] = False,
    why: Annotated[str, typer.Option(help="Why these limits; kept in the file, with who set them and when.")] = "",
) -> None:
    """Write down the errors of a run as limits that no later run may exceed, or tighten those of a file.

    `tttdebug compare RUN FILE` holds a run to them.
    """
    from tttdebug.baseline_job import proposed, tightened, written

    if [out, update, propose].count(None) != 2:
        raise typer.BadParameter("give one of --out FILE, --update FILE and --propose FILE")
    if out is not None:
        typer.echo(written(run, out, why, patterns=patterns))
    elif update is not None:
        typer.echo(tightened(run, update, why, loosen=loosen))
    elif propose is not None:
        typer.echo(proposed(run, propose, why, loosen=loosen), nl=False)
