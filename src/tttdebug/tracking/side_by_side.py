# SPDX-License-Identifier: Apache-2.0
"""Tracking a port beside its reference: prefill of every prompt, then teacher-forced decode, every boundary compared.

The reference goes first in each call and its own choice of tokens drives both sides, so that an error of the port is
seen where it arises and not as a different text. In between runs the floor: the reference in the port's formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PromptError
from tttdebug.references.golden_cache import GoldenCache
from tttdebug.tracking.driving import Decode, Prefill
from tttdebug.tracking.encoders import Encodings
from tttdebug.tracking.goldens import goldens_of
from tttdebug.tracking.hooks import PortTap
from tttdebug.tracking.op_tracking import OpTracker, ops_recorded
from tttdebug.tracking.opening import manifest_of
from tttdebug.tracking.pairing_plan import UserPairs
from tttdebug.tracking.prompts import Input, default_prompt
from tttdebug.tracking.run import Run
from tttdebug.tracking.steps import Steps
from tttdebug.tracking.streamed_truth import fill_goldens
from tttdebug.tracking.subject import Subject, subject_of
from tttdebug.tracking.tensor_budget import DEFAULT_TENSOR_BUDGET
from tttdebug.tracking.truth import Truth, truth_of
from tttdebug.tracking.wiring import wiring_of
from tttdebug.tracking.writer import RunWriter, SaveTensors

if TYPE_CHECKING:
    from tttdebug.references import Reference
    from tttdebug.tracking.weight_audit import Audit

Progress = Callable[[str, "float | None"], None]


def track(
    port: Any,
    reference: Reference,
    prompts: Sequence[Input] | None = None,
    decode_steps: int = 0,
    *,
    prefill: Prefill | None = None,
    decode: Decode | None = None,
    together: bool = False,
    pairs: UserPairs | None = None,
    out: str | Path | None = None,
    save_tensors: SaveTensors = "failed",
    tensor_budget: int = DEFAULT_TENSOR_BUDGET,
    ops: bool = False,
    weights: Audit | None = None,
    golden_cache: GoldenCache | str | Path | None = None,
    goldens: Sequence[str | Path] = (),
    command: str = "",
    seed: int | None = None,
    job: Mapping[str, Any] | None = None,
    progress: Progress = lambda message, fraction: None,
) -> Run:
    """Compare every paired module of `port` with its counterpart in `reference`, and give the run.

    `port` is any object. `prefill(port, token_ids[B, S])` runs it over a prompt and returns logits, a ttnn or torch
    tensor, padded or not; `decode(port, token_ids[B], positions[B])` over one more token of each user. Without them
    the port has methods of these names that take the same but `port`; a port of `build_model` has them. Each prompt is
    the only user of such a port (B = 1), or, `together`, all of them are read in one prefill.

    `pairs` names the modules to compare, else the port's own `pairs` do; else, or with a plan or its TOML file, they
    are found by `plan_pairs`, and the run lists what stayed unpaired. With `out` the run is written to that folder as
    it happens, else to a temporary one that lasts as long as the run object; `Run.save` keeps it. `save_tensors`
    says of which records both tensors are kept, up to `tensor_budget` bytes in all.

    A prompt is text or token ids; the default is the opening of A Tale of Two Cities. A port with `encode(inputs)`
    instead is an encoder: each prompt, which may be an image [C, H, W] or an `Image` too, goes once through it, and
    there is nothing to decode.

    With `ops` every ttnn op inside a paired module is recorded too, with its own error against a golden: `Run.ops`.
    `weights`, an audit of the port's weights, is kept in the run and said first; the floors of a port that declares no
    formats take them from it. `command`, `seed` and `job`, JSON-ready, are kept as they are: what made the run.

    With `golden_cache`, a folder or a `td.GoldenCache`, what the reference gives is kept there, and a later run of the
    same model and prompts reads it instead of running the reference. `goldens` are the folders of single ones: where
    one is damaged, or of another model, prompt, version or kind of machine, the reference runs and the run cannot pass.

    Raises PromptError, PairingError or RunError before anything runs. An exception of the port itself is passed on
    unchanged, after the run up to there has been closed so that it loads.
    """
    prompts = [default_prompt()] if prompts is None else prompts
    if len(prompts) == 0:
        raise PromptError("there are no prompts, so nothing would run: give one, or leave them out for the default")
    subject = subject_of(
        port,
        reference,
        prompts,
        decode_steps,
        prefill=prefill,
        decode=decode,
        together=together,
        pairs=pairs,
        weights=weights,
    )
    if isinstance(golden_cache, (str, Path)):
        golden_cache = GoldenCache(Path(golden_cache))
    kept = goldens_of(subject, golden_cache, [Path(folder) for folder in goldens])
    writer = RunWriter(
        None if out is None else Path(out),
        manifest_of(
            port,
            reference,
            [subject.prompt_to_json(prompt) for prompt in subject.prompts],
            decode_steps=decode_steps,
            expected=subject.comparisons,
            command=command,
            seed=seed,
            job=job,
            unpaired=subject.unpaired,
            weights=weights,
            golden=kept.to_json(),
            wiring=wiring_of(subject.paired),
        ),
        save_tensors=save_tensors,
        tensor_budget=tensor_budget,
    )
    if weights is not None:
        writer.keep_audit(weights)
    for note in subject.notes:
        writer.note(note)
    if subject.driver.decode is None and not subject.encodes:
        writer.note("nothing says how the port decodes: its prefill alone was compared")
    try:
        fill_goldens(subject, kept, progress)
        kept.begin()
        followed(subject, truth_of(subject, kept), writer, ops=ops, progress=progress)
    finally:
        kept.close()
    run = writer.finish()
    run.subject = subject
    return run


def followed(
    subject: Subject,
    truth: Truth,
    writer: RunWriter,
    *,
    ops: bool = False,
    goes_on_alone: bool = True,
    progress: Progress = lambda message, fraction: None,
) -> None:
    """Run a subject's port beside `truth` and let `writer` write down every comparison.

    The caller finishes the run. Where the port raises, it is closed as cut short. With `goes_on_alone` the port writes
    on by itself from where it would have chosen another token.
    """
    try:
        steps: Steps | Encodings = (
            Encodings(subject, truth, writer, progress)
            if subject.encodes
            else Steps(subject, truth, writer, progress, goes_on_alone=goes_on_alone)
        )
        comparer = steps.comparer
        tap = PortTap(subject.port_modules, comparer.on_output, comparer.on_call)
        tracker = OpTracker(writer, lambda: comparer.call) if ops else None
        with tap, ops_recorded(tracker, tap):
            steps.run()
        steps.conclude()
    except BaseException as error:
        writer.fail(error)
        raise
