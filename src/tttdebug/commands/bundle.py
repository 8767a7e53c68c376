# SPDX-License-Identifier: Apache-2.0
"""`tttdebug bundle`: one failing call of a module as a test that stands by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

Phase = Literal["prefill", "decode"]


def bundle(
    run: Annotated[Path, typer.Argument(help="The folder of a run that `tttdebug run` made.")],
    boundary: Annotated[
        str | None,
        typer.Argument(help="Such as L07.self_attn; default the first finding's, or the first that diverges."),
    ] = None,
    phase: Annotated[
        str | None, typer.Option(help="prefill or decode; default that of the first call that fails.")
    ] = None,
    step: Annotated[int | None, typer.Option(min=0, help="The decode step, from 0 on.")] = None,
    user: Annotated[int | None, typer.Option(min=0, help="Of several prompts, which one; from 0 on.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The folder to make, with a .zip of it beside; or only a FILE.zip. Default ./RUN_BOUNDARY."),
    ] = None,
    no_shrink: Annotated[bool, typer.Option("--no-shrink", help="The whole call of the module, nothing cut.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Bundle a module that does not fail alone too.")] = False,
) -> None:
    """Hand a failure on: inputs, weights, golden output and a pytest that needs torch and ttnn only.

    The module is run alone on the reference's input and its ttnn ops are recorded; what is not needed for the failure
    is cut off, and the rest is written as straight-line Python, with a text for an issue.

    Exit codes: 0 bundled, 1 the module does not fail alone, so that nothing is bundled, 2 no result.
    """
    from tttdebug.bundle_job import Wanted, bundled
    from tttdebug.errors import BundleError
    from tttdebug.reporting import console
    from tttdebug.reporting.bundle_report import print_bundled

    if phase is not None and phase not in get_args(Phase):
        raise BundleError(f"--phase {phase}: give prefill or decode")
    with console.progress(hidden=not console.ERR.is_terminal) as progress:
        done = bundled(run, Wanted(boundary, phase, step, user, not no_shrink, anyway), output, progress)
    print_bundled(done)
    raise typer.Exit(0 if done.bundle is not None else 1)
