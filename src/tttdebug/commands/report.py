# SPDX-License-Identifier: Apache-2.0
"""`tttdebug report`: a saved run as one file, for people, spreadsheets, scripts, CI and other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tttdebug.commands.choices import ReportFormat


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    format_: Annotated[
        ReportFormat,
        typer.Option(
            "--format",
            "-f",
            help="html: a page to read or print. md: for a pull request. junit: for CI. csv and jsonl: every record. "
            "visualizer: a db.sqlite. refpt: the reference's tokens.",
        ),
    ] = ReportFormat.html,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; - prints a text; default report.* in the run's folder.")
    ] = None,
) -> None:
    """Write a saved run as one file: its verdict, findings, errors, and what was left out.

    The exit code says whether the file was written, not whether the run passed.
    """
    from tttdebug.reporting import console
    from tttdebug.reporting.reports import report_text, write_report
    from tttdebug.tracking import Run

    loaded = Run.load(run)
    if out == Path("-"):
        typer.echo(report_text(loaded, format_.value).encode(errors="backslashreplace"), nl=False)
    else:
        console.OUT.print(f"written: {write_report(loaded, format_.value, out)}", soft_wrap=True, markup=False)
