# SPDX-License-Identifier: Apache-2.0
"""`tttdebug pair` and `tttdebug audit`: what there is to say about a port before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tttdebug.commands.choices import Engine


def pair(
    port: Annotated[
        str, typer.Option(help="FILE.py:NAME or PACKAGE.MODULE:NAME of what builds the port: NAME(reference, device).")
    ],
    reference: Annotated[str, typer.Option(help="A Hugging Face id, a folder, a GGUF file, or a name as of run.")],
    weights: Annotated[
        Path | None, typer.Option(help="A Hugging Face folder or a GGUF file with the reference's weights.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Only the reference's first N layers.")] = None,
    device: Annotated[str, typer.Option(help="'emulated', 'ttnn', or a mesh of either, as in `run`.")] = "emulated",
    engine: Annotated[Engine, typer.Option(help="Of the emulated device.")] = Engine.fast,
    pairs: Annotated[
        Path | None, typer.Option(help="A TOML file with pairs that hold; what it leaves open is found.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save the plan as TOML, to be edited and given back.")] = None,
) -> None:
    """Say which modules of your own port are compared with which of its reference, and which are not, and why."""
    from tttdebug.pair_job import PairJob, plan
    from tttdebug.reporting import console
    from tttdebug.reporting.pairing_table import pairing_table
    from tttdebug.tracking.plan_file import write_plan

    job = PairJob(port, reference, weights, layers, device, engine.value, pairs)
    with console.progress(hidden=not console.ERR.is_terminal) as progress:
        planned = plan(job, progress)
    console.OUT.print(pairing_table(planned))
    if out is not None:
        write_plan(planned, out)
        console.OUT.print(f"saved to {out}", highlight=False)


def audit(
    model: Annotated[str, typer.Option(help="As of run: a family, a Hugging Face id, or a folder.")] = "llama",
    port: Annotated[
        str | None, typer.Option(help="Your own port: FILE.py:build or package.module:build, as of run.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="With --port: what it is a port of; as --model.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A Hugging Face folder or a GGUF file with the reference's weights.")
    ] = None,
    family: Annotated[Path | None, typer.Option(help="A Python file that defines FAMILY.")] = None,
    port_weights: Annotated[
        Path | None, typer.Option(help="Other weights for the port: safetensors under the reference's names.")
    ] = None,
    device: Annotated[str, typer.Option(help="'emulated', or 'ttnn' / 'ttnn:ID' for a card.")] = "emulated",
    engine: Annotated[Engine, typer.Option(help="Of the emulated device.")] = Engine.fast,
    precision: Annotated[str, typer.Option(help="As of run.")] = "accuracy",
    layers: Annotated[int | None, typer.Option(help="Only the first N layers.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="List the weights that are as they should be too.")] = False,
) -> None:
    """Compare every weight on the device with the checkpoint, and say what those are that differ.

    Exit codes: 0 all are the checkpoint's, in the formats that the port declares, 1 some are not, 2 no result.
    """
    from tttdebug.audit_job import audited
    from tttdebug.job import Job
    from tttdebug.reporting import console
    from tttdebug.reporting.audit_table import audit_table

    job = Job(
        model=reference or model,
        port=port,
        weights=weights,
        family=family,
        port_weights=port_weights,
        device=device,
        engine=engine.value,
        precision=precision,
        layers=layers,
    )
    with console.progress(hidden=not console.ERR.is_terminal) as progress:
        result = audited(job, progress)
    console.OUT.print(audit_table(result, everything=everything))
    raise typer.Exit(0 if result.passed else 1)
