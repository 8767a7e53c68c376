# SPDX-License-Identifier: Apache-2.0
"""Tracking an encoder beside its reference: every sentence or image once, every boundary compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttdebug.errors import PromptError
from tttdebug.tracking.calls import Call, UserCall
from tttdebug.tracking.comparer import Comparer
from tttdebug.tracking.floor import FloorError
from tttdebug.tracking.hooks import PortTap, ReferenceTap
from tttdebug.tracking.images import Image
from tttdebug.tracking.op_tracking import OpTracker, ops_recorded
from tttdebug.tracking.opening import floor_of, floors_of, manifest_of
from tttdebug.tracking.pairing import Pair, pair_modules, reference_elements
from tttdebug.tracking.prompts import Input, read_prompt
from tttdebug.tracking.run import Run
from tttdebug.tracking.writer import RunWriter, SaveTensors

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tttdebug.references import Reference
    from tttdebug.tracking.weight_audit import Audit

Progress = Callable[[str, "float | None"], None]


def track_encoder(
    port: Any,
    reference: Reference,
    prompts: Sequence[Input],
    pairs: Sequence[Pair],
    *,
    out: str | Path | None,
    save_tensors: SaveTensors,
    tensor_budget: int,
    ops: bool,
    weights: Audit | None,
    command: str,
    seed: int | None,
    job: Mapping[str, Any] | None,
    progress: Progress,
) -> Run:
    """Compare every paired module over each prompt; see `track`."""
    read = [_read(reference, prompt) for prompt in prompts]
    paired = pair_modules(port, reference.model, pairs)
    writer = RunWriter(
        None if out is None else Path(out),
        manifest_of(
            port,
            reference,
            [about for _, about in read],
            decode_steps=0,
            expected=len(paired) * len(read),
            command=command,
            seed=seed,
            job=job,
            weights=weights,
        ),
        save_tensors=save_tensors,
        tensor_budget=tensor_budget,
    )
    if weights is not None:
        writer.keep_audit(weights)
    comparer = Comparer(port, paired, (), writer)
    truth = (reference.model, {modules.pair.boundary: modules.reference for modules in paired})
    floor, elements = floor_of(port, reference, paired, weights), reference_elements(paired)
    try:
        watched = {modules.pair.boundary: modules.port for modules in paired}
        tap = PortTap(watched, comparer.on_output, comparer.on_call)
        tracker = OpTracker(writer, lambda: comparer.call) if ops else None
        with tap, ops_recorded(tracker, tap):
            for user, (inputs, _) in enumerate(read):
                progress(f"input {user + 1} of {len(read)}", user / len(read))
                expected, taken = _activations(*truth, inputs, elements)
                errors = floors_of(_activations(*floor, inputs, elements)[0], expected)
                # a sentence is compared whole, however short
                floors = {boundary: FloorError(error.rel_l2, error.rel_l2) for boundary, error in errors.items()}
                comparer.expect(Call("prefill", 0, {user: UserCall((), 0, expected, floors, adapters=taken)}))
                port.encode(inputs)
                comparer.settle()
    except BaseException as error:
        writer.fail(error)
        raise
    return writer.finish()


def _read(reference: Reference, prompt: Input) -> tuple[torch.Tensor, dict[str, Any]]:
    """What goes into both sides, token ids [S] or an image [C, H, W], and what the manifest says of it."""
    import torch

    if reference.reads_images:
        if isinstance(prompt, torch.Tensor) and prompt.ndim == 3:
            prompt = Image(f"pixels {'x'.join(map(str, prompt.shape))}", prompt)
        if not isinstance(prompt, Image):
            raise PromptError(f"{reference.name} reads images: give each as a tensor [channels, height, width]")
        return prompt.pixels, {"text": prompt.text, "kind": "image", "tokens": reference.context_length}
    sentence = read_prompt(reference, prompt)
    return torch.tensor(sentence.token_ids), {"text": sentence.text, "tokens": len(sentence.token_ids)}


def _activations(
    model: nn.Module, modules: Mapping[str, nn.Module], inputs: torch.Tensor, elements: Mapping[str, int | str]
) -> tuple[dict[str, torch.Tensor], dict[str, tuple[str, ...]]]:
    """The output of each module in one call of the model, and which tensor of several it is."""
    import torch

    dtype = next(model.parameters()).dtype
    with torch.no_grad(), ReferenceTap(modules, elements) as tap:
        model(inputs[None].to(dtype)) if inputs.is_floating_point() else model(inputs[None])
        return tap.outputs(), tap.adapters()
