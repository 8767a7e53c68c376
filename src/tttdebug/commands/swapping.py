# SPDX-License-Identifier: Apache-2.0
"""`tttdebug swap` and `tttdebug bisect`: modules of the reference in the port, and what is left of the final error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def swap(
    run: Annotated[Path, typer.Argument(help="The folder of a run that `tttdebug run` made.")],
    boundaries: Annotated[
        list[str] | None, typer.Argument(metavar="[BOUNDARY]...", help="Such as L07.mlp; default those that fail.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="One after the other, the one that tells most first.")] = False,
    into_reference: Annotated[
        bool, typer.Option("--into-reference", help="The port's modules in the reference, instead.")
    ] = False,
) -> None:
    """Exchange modules of the port for the reference's, and say how much of the final error that takes away.

    Several boundaries are exchanged together; with --each, or without any, one at a time.
    """
    from tttdebug.analysis.free_run import FreeRun
    from tttdebug.analysis.swaps import damage, rank, recover
    from tttdebug.errors import AnalysisError
    from tttdebug.explain_job import reopened
    from tttdebug.reporting import console
    from tttdebug.reporting.swap_table import swap_table

    exchange = damage if into_reference else recover
    with console.progress(hidden=not console.ERR.is_terminal) as progress, reopened(run, progress) as saved:
        chosen = boundaries or list(dict.fromkeys(record.boundary for record in saved.failed))
        if not chosen:
            raise AnalysisError(f"no boundary of {run} fails: name those that are to be exchanged")
        assert saved.subject is not None
        freely = FreeRun(saved.subject, progress)
        if each or not boundaries:
            ranking = rank(freely, chosen, exchange)
            table = swap_table(ranking, ranking.not_swapped)
        else:
            table = swap_table([exchange(freely, chosen)])
    console.OUT.print(table)


def bisect(
    run: Annotated[Path, typer.Argument(help="The folder of a run that `tttdebug run` made.")],
    smallest: Annotated[
        bool,
        typer.Option("--smallest", help="Go on to the smallest set of modules that accounts for nearly all of it."),
    ] = False,
) -> None:
    """Find the layer, and the module in it, where the final error arises: the reference's up to there, then the port's.

    Exit codes: 0 every gate of the run holds, 1 one does not, 2 no result, as where the port errs no more than its
    number formats, so that there is nothing to bisect.
    """
    from tttdebug.analysis.bisection import bisect as bisected
    from tttdebug.analysis.free_run import FreeRun
    from tttdebug.analysis.smallest_set import smallest_set
    from tttdebug.explain_job import reopened
    from tttdebug.reporting import console
    from tttdebug.reporting.swap_table import bisection_table, swap_table

    with console.progress(hidden=not console.ERR.is_terminal) as progress, reopened(run, progress) as saved:
        assert saved.subject is not None
        freely = FreeRun(saved.subject, progress)
        found = bisected(freely)
        modules = smallest_set(freely) if smallest else ()
    console.OUT.print(bisection_table(found))
    if modules:
        console.OUT.print("\nmodules added one by one until the error is gone:", swap_table(modules))
    if saved.passed:
        console.OUT.print("every gate of this run holds, though it errs more than a sound port of the same settings")
    raise typer.Exit(0 if saved.passed else 1)
