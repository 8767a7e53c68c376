# SPDX-License-Identifier: Apache-2.0
"""`tttdebug gate`: a saved run held to thresholds, for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def gate(
    run: Annotated[Path | None, typer.Argument(help="A run's folder.")] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="A TOML file of thresholds; default those of --print-defaults.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier run, whose every comparison has to be there again.")
    ] = None,
    reference_digest: Annotated[
        str | None, typer.Option(help="The SHA-256 that the reference's weights must have, or its beginning.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report to this file.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
    print_defaults: Annotated[
        bool, typer.Option("--print-defaults", help="Print the default thresholds as a file to start from.")
    ] = False,
) -> None:
    """Hold a saved run to thresholds, and to have compared all that it should.

    Exit codes: 0 all hold, 1 something fails, 2 no result.
    """
    import json

    from tttdebug.errors import RunError
    from tttdebug.reporting.gate_report import gate_text
    from tttdebug.reporting.junit import write_junit
    from tttdebug.testing.default_thresholds import default_thresholds, default_thresholds_toml
    from tttdebug.testing.gating import gate_run
    from tttdebug.testing.thresholds import read_thresholds

    if print_defaults:
        typer.echo(default_thresholds_toml(), nl=False)
        return
    if run is None:
        raise RunError("gate: no run is given; give the folder that a run printed as its own")
    held_to = default_thresholds() if thresholds is None else read_thresholds(thresholds)
    result = gate_run(run, held_to, baseline=baseline, reference_digest=reference_digest)
    if junit is not None:
        write_junit(result, junit)
    typer.echo(json.dumps(result.to_json(), indent=1) if as_json else gate_text(result))
    raise typer.Exit(0 if result.passed else 1)
