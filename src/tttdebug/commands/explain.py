# SPDX-License-Identifier: Apache-2.0
"""`tttdebug explain`: what is wrong with the port of a saved run, and what mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain(
    run: Annotated[Path, typer.Argument(help="The folder of a run that `tttdebug run` made.")],
    prompts: Annotated[
        int | None,
        typer.Option(min=1, help="Over how many prompts the errors of sound modules are measured; default 4."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Say what is wrong with the port of a run: the module at fault, the cause, the evidence, the change.

    Both sides are built again as `run` built them, every module is fed with the reference's input, and what errs alone
    is tried against every known cause. What is found is kept in the run's folder; `show` prints it again.

    Exit codes: 0 nothing is wrong, 1 something is, 2 no result.
    """
    from tttdebug.errors import AnalysisError
    from tttdebug.explain_job import explained
    from tttdebug.reporting import console, figures, json_summary
    from tttdebug.reporting.findings import print_explanation, print_known
    from tttdebug.tracking import Run

    try:
        with console.progress(hidden=as_json) as progress:
            explanation = explained(run, progress, prompts)
    except AnalysisError:
        if not as_json:
            print_known(Run.load(run))
        raise
    figures.save_depth_figure(explanation.run)
    if as_json:
        typer.echo(json_summary.dumps(explanation.run, explanation=explanation))
    else:
        print_explanation(explanation)
    raise typer.Exit(1 if explanation.detected else 0)
