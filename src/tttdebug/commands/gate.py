# SPDX-License-Identifier: Apache-2.0
"""`tttdebug gate`: a saved run held to thresholds, for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from tttdebug.gate_selftest_job import Gated


FAULTS = 12


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
    selftest: Annotated[
        bool,
        typer.Option(
            "--selftest",
            help="Put faults into the port of this run, and say which the same gate would not see; exit code 1 where "
            "that is one that must be caught.",
        ),
    ] = False,
    faults: Annotated[
        int | None, typer.Option(min=1, help=f"With --selftest: how many faults to draw; default {FAULTS}.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="With --selftest: repeats one; without it a new one is drawn.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="With --selftest: only faults of these classes, such as weights,cache; default all."),
    ] = None,
    print_defaults: Annotated[
        bool, typer.Option("--print-defaults", help="Print the default thresholds as a file to start from.")
    ] = False,
) -> None:
    """Hold a saved run to thresholds, and to have compared all that it should; --selftest: would it see faults?

    Exit codes: 0 all hold, 1 something fails, 2 no result.
    """
    import json

    from tttdebug.errors import RunError
    from tttdebug.gate_selftest_job import Gated
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
    if selftest:
        chosen = tuple(name.strip() for name in (classes or "").split(",") if name.strip())
        _selftest(run, Gated(held_to, baseline, reference_digest), faults or FAULTS, seed, chosen, junit, as_json)
    if (faults, seed, classes) != (None, None, None):
        raise typer.BadParameter("--faults, --seed and --classes are for --selftest")
    result = gate_run(run, held_to, baseline=baseline, reference_digest=reference_digest)
    if junit is not None:
        write_junit(result, junit)
    typer.echo(json.dumps(result.to_json(), indent=1) if as_json else gate_text(result))
    raise typer.Exit(0 if result.passed else 1)


def _selftest(
    run: Path,
    gated: Gated,
    faults: int,
    seed: int | None,
    classes: tuple[str, ...],
    junit: Path | None,
    as_json: bool,
) -> NoReturn:
    import json

    from tttdebug.gate_selftest_job import gate_selftest
    from tttdebug.reporting import console
    from tttdebug.reporting.gate_selftest_report import print_gate_selftest, write_selftest_junit

    with console.progress(hidden=not console.ERR.is_terminal) as progress:
        result = gate_selftest(run, gated, faults=faults, seed=seed, classes=classes, progress=progress)
    if junit is not None:
        write_selftest_junit(result, junit)
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=1))
    else:
        print_gate_selftest(result)
    raise typer.Exit(0 if result.passed else 1)
