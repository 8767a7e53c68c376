# SPDX-License-Identifier: Apache-2.0
"""The `tttdebug` command: parse, call one function, print.

Exit codes: 0 all gates hold, 1 a gate fails, 2 no result.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from tttdebug.errors import PortRaisedError, TttdebugError

app = typer.Typer(
    name="tttdebug",
    help="Says which module of a TTNN port diverged from its torch reference, and by how much.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
DEBUG = "--debug"


class Engine(str, Enum):
    fast = "fast"
    ideal = "ideal"
    exact = "exact"


class SaveTensors(str, Enum):
    all = "all"
    failed = "failed"
    none = "none"


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    script: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCRIPT [ARGS]...]", help="With --as-ttnn: a script and its arguments."),
    ] = None,
    as_ttnn: Annotated[
        bool, typer.Option("--as-ttnn", help="Run a Python script unchanged, with the emulator in the place of ttnn.")
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="A family (`tttdebug models`; llama and bert fetch a model once), a Hugging Face id, or a folder."
        ),
    ] = "llama",
    port: Annotated[
        str | None,
        typer.Option(
            help="Your own port: FILE.py:build or package.module:build, called as build(reference_model, device). "
            "`prefill` and `decode` are looked up on what it returns, then beside it (docs/tracking-your-model.md)."
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="With --port: what it is a port of, a Hugging Face id or a folder; as --model.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A TOML file with pairs that override those found (`tttdebug pair`).")
    ] = None,
    together: Annotated[
        bool,
        typer.Option(
            "--together", help="With --port: read prompts of one length in one prefill [B, S], not one by one."
        ),
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(help="A Hugging Face folder or a GGUF file with the reference's weights.")
    ] = None,
    family: Annotated[
        Path | None, typer.Option(help="A Python file that defines FAMILY, for a model of none of `tttdebug models`.")
    ] = None,
    port_weights: Annotated[
        Path | None,
        typer.Option(
            help="Other weights for the port: safetensors under the reference's names, e.g. of a suspect conversion."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="'emulated', or 'ttnn' / 'ttnn:ID' for a card; a mesh as 'ttnn:1x2', 'ttnn:T3K', 'ttnn:mesh' (as "
            "MESH_DEVICE says)."
        ),
    ] = "emulated",
    fabric: Annotated[
        str | None, typer.Option(help="How a mesh's devices talk: a ttnn.FabricConfig, e.g. FABRIC_1D.")
    ] = None,
    trace_region_size: Annotated[
        int, typer.Option(help="Bytes of each device kept for traces, for a port that captures them.")
    ] = 0,
    command_queues: Annotated[int, typer.Option(help="Command queues of the device: 1 or 2.")] = 1,
    engine: Annotated[
        Engine,
        typer.Option(
            help="Of the emulated device: the chip's formats at torch speed, the chip bit by bit, or plain fp32."
        ),
    ] = Engine.fast,
    precision: Annotated[
        str,
        typer.Option(
            help="accuracy (bfloat8_b weights), performance (bfloat4_b and LoFi in FF1/FF3), bf16; or a hint: auto, "
            "high, balanced, fast; or a decoder_config.json."
        ),
    ] = "accuracy",
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text, or @FILE. May be given several times: a user each.")
    ] = None,
    token_ids: Annotated[
        list[str] | None,
        typer.Option(help="Instead of text, for a model without a tokenizer: '5 17 3'. A user each, as prompts are."),
    ] = None,
    tokens_from: Annotated[
        Path | None,
        typer.Option(help="A .refpt token reference: its text is a prompt; prints the port's token accuracy."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="For a model of images: a picture; without one, random pixels. May be given several times."),
    ] = None,
    decode_steps: Annotated[
        int, typer.Option(help="Tokens to decode after the prompt, driven by the reference's choice.")
    ] = 8,
    layers: Annotated[int | None, typer.Option(help="Only the first N layers.")] = None,
    save_tensors: Annotated[
        SaveTensors, typer.Option(help="Of which boundaries both tensors are kept.")
    ] = SaveTensors.failed,
    ops: Annotated[
        bool,
        typer.Option("--ops", help="Record every ttnn op inside the modules too, each against its own golden."),
    ] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="First compare every weight whole, also your own port's (`tttdebug audit`)."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run; default reports/<model>_<monDD>_<HHMMSS>.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of torch's random numbers.")] = 0,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the verdict and where the run is, nothing else.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Run a model's TTNN port beside its torch reference and compare every module.

    With --as-ttnn, run a script of your own instead: `tttdebug run --engine ideal --as-ttnn demo.py --batch 2`. What
    follows the script is its own, and so is the exit code; of the options here only --engine counts.
    """
    if as_ttnn or script:
        raise typer.Exit(_run_as_ttnn(script or [], as_ttnn, engine.value))
    from tttdebug.job import Job, do
    from tttdebug.references.refpt import read_refpt, token_accuracy
    from tttdebug.reporting import console, figures, json_summary

    job = Job(
        model=reference or model,
        port=port,
        pairs=pairs,
        together=together,
        weights=weights,
        family=family,
        port_weights=port_weights,
        device=device,
        fabric=fabric,
        trace_region_size=trace_region_size,
        command_queues=command_queues,
        engine=engine.value,
        precision=precision,
        prompts=tuple(prompt or ()),
        token_ids=tuple(token_ids or ()),
        images=tuple(image or ()),
        tokens_from=tokens_from,
        decode_steps=decode_steps,
        layers=layers,
        save_tensors=save_tensors.value,
        ops=ops,
        audit=audit,
        out=out,
        seed=seed,
        command=shlex.join(["tttdebug", *sys.argv[1:]]),
    )
    with console.progress(hidden=quiet or as_json) as progress:
        finished = do(job, progress)
        progress("draw", None)
        figures.save_depth_figure(finished)
    accuracy = token_accuracy(finished, read_refpt(tokens_from)) if tokens_from is not None else None
    if as_json:
        typer.echo(json_summary.dumps(finished, accuracy))
    elif quiet:
        console.print_verdict(finished)
    else:
        console.print_run(finished)
    if accuracy is not None and not as_json:
        console.OUT.print(f"tokens of {tokens_from}: {accuracy}")
    raise typer.Exit(0 if finished.passed else 1)


def _run_as_ttnn(script: list[str], as_ttnn: bool, engine: str) -> int:
    from tttdebug.emulator.drop_in import run_script
    from tttdebug.emulator.errors import EmulatorError
    from tttdebug.emulator.opening import DeviceOptions

    if not as_ttnn:
        raise EmulatorError(f"run: unexpected {script[0]!r}; to run a script, put --as-ttnn before it")
    if not script:
        raise EmulatorError("run: --as-ttnn needs a script: tttdebug run --as-ttnn demo.py")
    return run_script(Path(script[0]), script[1:], DeviceOptions(engine))


@app.command()
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


@app.command("audit")
def audit_weights(
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


@app.command()
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
    """Print a saved run: finished, unfinished or failed."""
    from tttdebug.errors import RunError
    from tttdebug.reporting import console
    from tttdebug.reporting.op_table import op_table
    from tttdebug.tracking import Run

    if boundary is not None and not ops:
        raise RunError(f"show: {boundary!r} names a boundary; put --ops before it to see the ops inside")
    if ops:
        console.OUT.print(op_table(Run.load(run), boundary, limit=worst, in_order=in_order))
        return
    console.print_run(Run.load(run), rows=worst, in_order=in_order)


@app.command()
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


@app.command()
def dashboard(
    run: Annotated[Path | None, typer.Argument(help="A run's folder, or a folder of runs; default reports/.")] = None,
    port: Annotated[int | None, typer.Option(help="Port on this machine; default a free one.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only say the address.")] = False,
) -> None:
    """Open the dashboard on a run."""
    from tttdebug.reporting.dashboard import serve

    raise typer.Exit(serve(run or Path("reports"), port=port, open_browser=not no_browser))


@app.command()
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


@app.command()
def doctor() -> None:
    """Say which versions, devices and weights are here, what is missing and how to get it."""
    from tttdebug.reporting import console, health

    console.print_health(health.examine())


emulator_app = typer.Typer(help="The emulated chip itself.", no_args_is_help=True)
app.add_typer(emulator_app, name="emulator")


@emulator_app.command()
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


@app.callback()
def _options(debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")] = False) -> None:
    """Read by `main` before typer sees it; declared here so that --help lists it."""


def main() -> None:
    """Entry point: an error is one line on standard error and exit code 2; `--debug`, anywhere, shows its traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads are many times slower on a busy machine
    debug = DEBUG in sys.argv
    if debug:
        sys.argv.remove(DEBUG)
    from tttdebug.emulator.errors import EmulatorError

    try:
        app()
    except (TttdebugError, EmulatorError) as error:
        if debug:
            raise
        if isinstance(error, PortRaisedError):  # the user's own code: its traceback is what he needs
            traceback.print_exception(error.__cause__)
        print(f"tttdebug: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # the last line of defence: an exit code of 1 would say that a gate failed
        if debug:
            raise
        print(
            f"tttdebug: unexpected {type(error).__name__}: {error}; add --debug to see where, and please report it",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
