# SPDX-License-Identifier: Apache-2.0
"""The main job: a named model, its port on a device, ours or the user's own, both tracked side by side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tttdebug.errors import FamilyError, PortError, PromptError, RunError, SpecError, WeightsError
from tttdebug.foreign_port import BuiltPort, build_port, imported_ttnn, own_exceptions

if TYPE_CHECKING:
    import torch

    from tttdebug.references import Reference
    from tttdebug.tracking import Audit, Run
    from tttdebug.tracking.prompts import Input
    from tttdebug.tracking.writer import SaveTensors

Progress = Callable[[str, "float | None"], None]


@dataclass(frozen=True)
class Job:
    """What `tttdebug run` was asked for. `port` is `FILE_OR_MODULE:build` of a port that is not ours."""

    model: str = "llama"
    weights: Path | None = None
    family: Path | None = None
    port_weights: Path | None = None
    port: str | None = None
    pairs: Path | None = None
    together: bool = False
    device: str = "emulated"
    fabric: str | None = None
    trace_region_size: int = 0
    command_queues: int = 1
    engine: str = "fast"
    precision: str = "accuracy"
    prompts: tuple[str, ...] = ()
    token_ids: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    tokens_from: Path | None = None
    decode_steps: int = 8
    layers: int | None = None
    save_tensors: SaveTensors = "failed"
    ops: bool = False
    audit: bool = False
    out: Path | None = None
    seed: int = 0
    command: str = field(default="", compare=False)


def do(job: Job, progress: Progress) -> Run:
    """Load the reference, check it, build its port and compare them.

    Raises a TttdebugError for whatever stands in the way; a PortRaisedError for an exception of the user's own port.
    """
    import torch

    from tttdebug.backends import opened_device
    from tttdebug.families import register_file
    from tttdebug.modules.hardware import HardwareConfig
    from tttdebug.references import check_reference, load_reference
    from tttdebug.references.refpt import read_refpt
    from tttdebug.tracking import track
    from tttdebug.tracking.driving import has_slots

    if job.decode_steps < 0:
        raise SpecError(f"--decode-steps {job.decode_steps}: give 0 or more")
    if job.port is not None and job.port_weights is not None:
        raise PortError("--port-weights is for the ports that tttdebug builds; your own loads its weights in build")
    if job.port is None and job.together:
        raise PortError("--together is for a port of your own (--port): tttdebug's read each prompt into its own slot")
    if job.family is not None:
        register_file(job.family)
    HardwareConfig.named(job.precision)
    texts: list[str | list[int]] = [_text(prompt) for prompt in job.prompts]
    texts += [_token_ids(ids) for ids in job.token_ids]
    token_reference = None if job.tokens_from is None else read_refpt(job.tokens_from)
    torch.manual_seed(job.seed)
    out = job.out or _new_folder(job.model)
    _refuse_unwritable(out)
    ttnn = nullcontext() if job.port is None else imported_ttnn(job.device, job.engine)
    options = {
        "engine": job.engine,
        "fabric_config": job.fabric,
        "trace_region_size": job.trace_region_size,
        "num_command_queues": job.command_queues,
    }
    with ttnn, opened_device(job.device, **options) as device:
        if job.port is None:
            refuse_family_without_weights(job)
        reference = load_reference(job.model, weights=job.weights, layers=job.layers, progress=progress)
        if job.port is None:
            _refuse_other_family(job, reference)
        decode_steps = job.decode_steps if reference.decodes else 0
        if token_reference is not None:
            texts.append(token_reference.prompt(reference.context_length - decode_steps))
        prompts = _prompts(job, reference, texts)
        progress("check the reference", None)
        check_reference(reference, _what_is_read(reference, prompts[0], decode_steps))
        progress("build the port", None)
        built = built_port(job, reference, device)
        weights = _audited(job, built.port, reference, progress)
        if built.decode is None and not has_slots(built.port):
            decode_steps = 0  # the run notes it
        whose = nullcontext() if job.port is None else own_exceptions(f"the port raised; the run so far is in {out}")
        with whose:
            return track(
                built.port,
                reference,
                prompts,
                decode_steps,
                prefill=built.prefill,
                decode=built.decode,
                pairs=job.pairs,
                together=job.together,
                out=out,
                save_tensors=job.save_tensors,
                ops=job.ops,
                weights=weights,
                command=job.command,
                seed=job.seed,
                progress=progress,
            )


def _audited(job: Job, port: Any, reference: Reference, progress: Progress) -> Audit | None:
    """The audit of the port's weights: some rows of each, which costs little; with --audit all of them, and of a port
    that declares nothing too.
    """
    from tttdebug.tracking import audit

    if job.port is not None and not job.audit:
        return None
    progress("audit the weights", None)
    return audit(port, reference, quick=not job.audit)


def built_port(job: Job, reference: Reference, device: Any) -> BuiltPort:
    """The port of the reference's family, or the user's own."""
    from tttdebug.modules.build import build_model

    if job.port is not None:
        return build_port(job.port, reference.model, device)
    return BuiltPort(build_model(reference, device, job.precision, weights=_state_dict(job.port_weights)))


def refuse_family_without_weights(job: Job) -> None:
    """A family's name stands for a model only where that is fetched; for the others the user brings one."""
    from tttdebug.families import all_families
    from tttdebug.references import NAMES

    for family in all_families():
        if job.model == family.name and job.weights is None and job.model not in NAMES:
            raise WeightsError(
                f"family {family.name} comes without a model: give --weights FOLDER, or a hub id or a folder as --model"
            )


def _refuse_other_family(job: Job, reference: Reference) -> None:
    """Where the model was named by its family, the weights must be of that family."""
    from tttdebug.families import all_families, family_for

    found = family_for(reference.model).name
    if job.model != found and job.model in {family.name for family in all_families()}:
        raise FamilyError(f"--model {job.model} names a family, but {job.weights} is of family {found}: say that one")


def _prompts(job: Job, reference: Reference, texts: list[str | list[int]]) -> list[Input]:
    """What both sides read: the texts or images that were asked for, else the default text or random pixels."""
    from tttdebug.tracking.images import random_image, read_image
    from tttdebug.tracking.prompts import default_prompt

    if not reference.reads_images:
        if job.images:
            raise PromptError(f"--image: {reference.name} reads text, not images; give --prompt")
        return [*texts] or [default_prompt()]
    if texts:
        raise PromptError(f"--prompt: {reference.name} reads images, not text; give --image FILE")
    return [read_image(reference, path) for path in job.images] or [random_image(reference, job.seed)]


def _what_is_read(reference: Reference, prompt: Input, decode_steps: int) -> tuple[int, ...] | torch.Tensor:
    """A prompt as token ids, or an image's pixels."""
    from tttdebug.tracking.images import Image
    from tttdebug.tracking.prompts import read_prompt

    return prompt.pixels if isinstance(prompt, Image) else read_prompt(reference, prompt, decode_steps).token_ids


def _token_ids(ids: str) -> list[int]:
    """Token ids out of a text such as `5 17 3`."""
    try:
        return [int(word) for word in ids.replace(",", " ").split()]
    except ValueError:
        raise PromptError(f"--token-ids {ids}: give whole numbers, such as '5 17 3'") from None


def _text(prompt: str) -> str:
    """The prompt itself, or with @FILE the text of that file."""
    if not prompt.startswith("@"):
        return prompt
    try:
        return Path(prompt[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"--prompt {prompt}: cannot read that file as text ({error})") from None


def _new_folder(model: str) -> Path:
    """`reports/<model>_<monDD>_<HHMMSS>`, the field's way of naming a report."""
    name = Path(model).name or "model"
    return Path("reports") / f"{name}_{datetime.now():%b%d_%H%M%S}".lower()


def _refuse_unwritable(out: Path) -> None:
    """Find out before minutes of work whether a run can be written there, leaving nothing behind."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(
            f"--out {out} exists and is not an empty folder; give a new one, so that no run overwrites another"
        )
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    try:
        with TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise RunError(f"--out {out}: cannot write into {parent} ({error.strerror}); choose another folder") from None


def _state_dict(path: Path | None) -> dict[str, torch.Tensor] | None:
    """The weights of a safetensors file, or of all such files in a folder, under the reference's names."""
    if path is None:
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise WeightsError(f"--port-weights {path} holds no .safetensors file")
    state: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            state |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"--port-weights {file} cannot be read as safetensors ({error})") from None
    return state
