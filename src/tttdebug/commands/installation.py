# SPDX-License-Identifier: Apache-2.0
"""`tttdebug models`, `doctor` and `emulator conformance`: what is here, and how true it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def models(
    family: Annotated[Path | None, typer.Option(help="A Python file that defines FAMILY, to be listed too.")] = None,
) -> None:
    """List the model families: their architectures and what each needs."""
    from tttdebug.families import all_families, register_file
    from tttdebug.reporting import console
    from tttdebug.reporting.family_table import family_table

    if family is not None:
        register_file(family)
    console.OUT.print(family_table(all_families()))


def doctor() -> None:
    """Say which versions, devices and weights are here, what is missing and how to get it."""
    from tttdebug.reporting import console, health

    console.print_health(health.examine())


def conformance(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Recordings of the real ttnn; default TTTDEBUG_GOLDEN, else those of the source tree."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="fast, exact or ideal; may be given several times; default all with a target."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write a row per case and engine to this file.")] = None,
    listed: Annotated[int, typer.Option(help="How many cases to list of a family that miss its target.")] = 5,
) -> None:
    """Replay recordings of the real chip on the emulator's engines and say how true each is.

    Exit codes: 0 every family of the engines holds, 1 one does not, 2 there is nothing to replay.
    """
    from tttdebug.conformance_job import check
    from tttdebug.reporting import console
    from tttdebug.reporting.conformance_report import print_conformance, write_csv

    with console.progress(hidden=not console.ERR.is_terminal) as progress:
        checked = check(folder, engine or [], progress)
    if csv is not None:
        write_csv(csv, checked.cases)
    print_conformance(checked.folder, checked.families, listed)
    raise typer.Exit(0 if checked.holds else 1)
