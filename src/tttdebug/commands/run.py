# SPDX-License-Identifier: Apache-2.0
"""`tttdebug run`: a port beside its reference, every module compared."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from tttdebug.commands.choices import Engine, SaveTensors
from tttdebug.tracking.tensor_budget import DEFAULT_TENSOR_BUDGET, MIB


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
    tensor_budget: Annotated[
        int,
        typer.Option(metavar="MIB", min=0, help="Save no more tensors than this; the run says where it ran out."),
    ] = DEFAULT_TENSOR_BUDGET // MIB,
    ops: Annotated[
        bool,
        typer.Option("--ops", help="Record every ttnn op inside the modules too, each against its own golden."),
    ] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="First compare every weight whole, also your own port's (`tttdebug audit`)."),
    ] = False,
    stream_reference: Annotated[
        bool | None,
        typer.Option(
            "--stream-reference/--no-stream-reference",
            help="Run the reference a layer at a time out of its safetensors; by default only where it is larger than "
            "memory.",
        ),
    ] = None,
    golden_cache: Annotated[
        bool,
        typer.Option(
            "--golden-cache/--no-golden-cache",
            help="Keep what the reference gives, and read it instead of running the reference where nothing changed "
            "(docs/golden-cache.md).",
        ),
    ] = True,
    golden: Annotated[
        list[Path] | None,
        typer.Option(
            help="The folder of a golden that must serve; if it is damaged, stale or foreign, the run fails. May be "
            "given several times."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run; default reports/<model>_<monDD>_<HHMMSS>.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Then say what is wrong and what mends it (`tttdebug explain`).")
    ] = False,
    inject: Annotated[
        str | None,
        typer.Option(
            metavar="FAULT[@BOUNDARY]",
            help="Put a known fault into the port first, such as rope_theta@L02.self_attn; without a boundary where "
            "--seed draws it. An unknown name lists the faults.",
        ),
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
    from tttdebug.explain_job import run_and_explain
    from tttdebug.job import Job, do
    from tttdebug.references.refpt import read_refpt, token_accuracy
    from tttdebug.reporting import console, figures, json_summary
    from tttdebug.reporting.findings import print_explanation

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
        tensor_budget=tensor_budget * MIB,
        ops=ops,
        audit=audit,
        inject=inject,
        stream_reference=stream_reference,
        golden_cache=golden_cache,
        goldens=tuple(golden or ()),
        out=out,
        seed=seed,
        command=shlex.join(["tttdebug", *sys.argv[1:]]),
    )
    with console.progress(hidden=quiet or as_json) as progress:
        explanation = run_and_explain(job, progress) if explain else None
        finished = do(job, progress) if explanation is None else explanation.run
        progress("draw", None)
        figures.save_depth_figure(finished)
    accuracy = token_accuracy(finished, read_refpt(tokens_from)) if tokens_from is not None else None
    if as_json:
        typer.echo(json_summary.dumps(finished, accuracy, explanation))
    elif quiet:
        console.print_verdict(finished)
    else:
        console.print_run(finished)
    if explanation is not None and not as_json:
        print_explanation(explanation, quiet=quiet)
    if accuracy is not None and not as_json:
        console.OUT.print(f"tokens of {tokens_from}: {accuracy}")
    wrong = not finished.passed if explanation is None else explanation.detected
    raise typer.Exit(1 if wrong else 0)


def _run_as_ttnn(script: list[str], as_ttnn: bool, engine: str) -> int:
    from tttdebug.emulator.drop_in import run_script
    from tttdebug.emulator.errors import EmulatorError
    from tttdebug.emulator.opening import DeviceOptions

    if not as_ttnn:
        raise EmulatorError(f"run: unexpected {script[0]!r}; to run a script, put --as-ttnn before it")
    if not script:
        raise EmulatorError("run: --as-ttnn needs a script: tttdebug run --as-ttnn demo.py")
    return run_script(Path(script[0]), script[1:], DeviceOptions(engine))
