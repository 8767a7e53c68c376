# SPDX-License-Identifier: Apache-2.0
"""`tttdebug show`, `visualizer` and `dashboard`: a saved run, printed, written for another tool, or opened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    worst: Annotated[
        int, typer.Option(help="How many boundaries to list, those farthest above their floor first.")
    ] = 20,
    in_order: Annotated[bool, typer.Option("--in-order", help="List in the order of execution instead.")] = False,
    ops: Annotated[
        bool, typer.Option("--ops", help="Print the ttnn ops instead: of the run, or of the boundary that is named.")
    ] = False,
    boundary: Annotated[
        str | None,
        typer.Argument(help="With --ops: a boundary such as L07.mlp, or a layer such as L07."),
    ] = None,
) -> None:
    """Print a saved run: finished, unfinished or failed; and what an explanation of it found."""
    from tttdebug.analysis.explanation import Explanation
    from tttdebug.errors import RunError
    from tttdebug.reporting import console
    from tttdebug.reporting.findings import print_explanation
    from tttdebug.reporting.op_table import op_table
    from tttdebug.tracking import Run

    if boundary is not None and not ops:
        raise RunError(f"show: {boundary!r} names a boundary; put --ops before it to see the ops inside")
    if ops:
        console.OUT.print(op_table(Run.load(run), boundary, limit=worst, in_order=in_order))
        return
    loaded = Run.load(run)
    console.print_run(loaded, rows=worst, in_order=in_order)
    explanation = Explanation.load(loaded)
    if explanation is not None:
        print_explanation(explanation)


def visualizer(
    source: Annotated[Path, typer.Argument(help="A run's folder, or a db.sqlite of ttnn's.")],
    out: Annotated[Path | None, typer.Argument(help="Where to write a run's; default db.sqlite in its folder.")] = None,
) -> None:
    """Write a run as a db.sqlite that ttnn-visualizer opens; or print the comparisons that such a file holds."""
    from tttdebug.errors import VisualizerError
    from tttdebug.reporting import console
    from tttdebug.reporting.visualizer import comparison_table, read_comparisons, write_database
    from tttdebug.tracking import Run

    if source.is_dir():
        console.OUT.print(f"written: {write_database(Run.load(source), out or source)}", soft_wrap=True)
    elif out is not None:
        raise VisualizerError(f"{source} is no folder of a run; a database is only read")
    else:
        console.OUT.print(comparison_table(read_comparisons(source)))


def dashboard(
    run: Annotated[Path | None, typer.Argument(help="A run's folder, or a folder of runs; default reports/.")] = None,
    port: Annotated[int | None, typer.Option(help="Port on this machine; default a free one.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only say the address.")] = False,
) -> None:
    """Open the dashboard on a run."""
    from tttdebug.reporting.dashboard import serve

    raise typer.Exit(serve(run or Path("reports"), port=port, open_browser=not no_browser))
