# SPDX-License-Identifier: Apache-2.0
"""`tttdebug selftest`: known faults drawn afresh, each explained, and how often the explanation is right."""

from __future__ import annotations

from typing import Annotated

import typer


def selftest(
    faults: Annotated[int, typer.Option(min=0, help="How many faults to draw.")] = 20,
    harmless: Annotated[int, typer.Option(min=0, help="How many harmless changes, which must not be blamed.")] = 10,
    seed: Annotated[int | None, typer.Option(help="Repeats a self-test; without it a new one is drawn.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Only this fault or change; may be given several times.")
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Only models of this family; may be given several times.")
    ] = None,
) -> None:
    """Put known faults into sound ports of small models, explain each, and count how often the explanation is right.

    Exit codes: 0 every target is reached, 1 one is not, 2 no result.
    """
    from tttdebug.reporting import console
    from tttdebug.reporting.selftest_report import selftest_report
    from tttdebug.selftest_job import selftest as tested

    with console.progress(hidden=not console.ERR.is_terminal) as progress:
        result = tested(
            faults, harmless, seed, names=tuple(name or ()), families=tuple(family or ()), progress=progress
        )
    console.OUT.print(selftest_report(result))
    raise typer.Exit(0 if result.reached else 1)
