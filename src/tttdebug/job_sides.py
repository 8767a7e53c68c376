# SPDX-License-Identifier: Apache-2.0
"""Both sides of a job: the reference loaded, its port built on an open device, and what they are to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.errors import FamilyError, PortError, SpecError, WeightsError
from tttdebug.foreign_port import BuiltPort, build_port, imported_ttnn
from tttdebug.job_inputs import prompts_of, state_dict_of, texts_of, what_is_read

if TYPE_CHECKING:
    import torch

    from tttdebug.job import Job, Progress
    from tttdebug.references import Reference
    from tttdebug.references.golden_cache import GoldenCache
    from tttdebug.tracking import Audit
    from tttdebug.tracking.prompts import Input


@dataclass(frozen=True)
class Sides:
    """Both sides, ready to be tracked.

    `decode_steps` are those that they can make, `injected` the fault that was put into the port, and where;
    `golden_cache` holds what references gave in earlier runs.
    """

    reference: Reference
    built: BuiltPort
    prompts: Sequence[Input]
    decode_steps: int
    weights: Audit | None
    injected: str | None = None
    golden_cache: GoldenCache | None = None


def compared(job: Job, sides: Sides) -> dict[str, Any]:
    """What is compared with what, and how: the arguments that `track` and `subject_of` share."""
    return {
        "port": sides.built.port,
        "reference": sides.reference,
        "prompts": sides.prompts,
        "decode_steps": sides.decode_steps,
        "prefill": sides.built.prefill,
        "decode": sides.built.decode,
        "pairs": job.pairs,
        "together": job.together,
        "weights": sides.weights,
    }


def refuse_contradictions(job: Job) -> None:
    """Raise a TttdebugError for what can be known to be wrong before anything is loaded."""
    from tttdebug.modules.hardware import HardwareConfig

    if job.decode_steps < 0:
        raise SpecError(f"--decode-steps {job.decode_steps}: give 0 or more")
    if job.port is not None and job.port_weights is not None:
        raise PortError("--port-weights is for the ports that tttdebug builds; your own loads its weights in build")
    if job.port is None and job.together:
        raise PortError("--together is for a port of your own (--port): tttdebug's read each prompt into its own slot")
    if job.port is not None and job.inject is not None:
        raise PortError("--inject is for the ports that tttdebug builds: it knows where their faults can be put")
    HardwareConfig.named(job.precision)


@contextmanager
def both_sides(job: Job, progress: Progress) -> Iterator[Sides]:
    """Load and check the reference, build its port, and keep the port's device open within the block.

    Raises a TttdebugError for whatever stands in the way; a PortRaisedError for an exception of the user's own port.
    """
    import torch

    from tttdebug.backends import opened_device
    from tttdebug.families import register_file
    from tttdebug.references import check_reference, load_reference
    from tttdebug.references.golden_cache import GoldenCache
    from tttdebug.references.refpt import read_refpt
    from tttdebug.tracking.driving import has_slots

    refuse_contradictions(job)
    if job.family is not None:
        register_file(job.family)
    texts = texts_of(job)
    token_reference = None if job.tokens_from is None else read_refpt(job.tokens_from)
    torch.manual_seed(job.seed)
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
        reference = load_reference(
            job.model, weights=job.weights, layers=job.layers, stream=job.stream_reference, progress=progress
        )
        if job.port is None:
            _refuse_other_family(job, reference)
        decode_steps = job.decode_steps if reference.decodes else 0
        if token_reference is not None:
            texts.append(token_reference.prompt(reference.context_length - decode_steps))
        prompts = prompts_of(job, reference, texts)
        progress("check the reference", None)
        golden_cache = GoldenCache() if job.golden_cache else None
        read = what_is_read(reference, prompts[0], decode_steps)
        check_reference(reference, read, known_logits=_known_logits(golden_cache, reference, read))
        progress("build the port", None)
        built = built_port(job, reference, device)
        injected = None if job.inject is None else _injected(job.inject, built.port, job.seed)
        weights = _audited(job, built.port, reference, progress)
        if built.decode is None and not has_slots(built.port):
            decode_steps = 0  # the run notes it
        yield Sides(reference, built, prompts, decode_steps, weights, injected, golden_cache)


def built_port(job: Job, reference: Reference, device: Any) -> BuiltPort:
    """The port of the reference's family, or the user's own."""
    from tttdebug.modules.build import build_model

    if job.port is not None:
        return build_port(job.port, reference.model, device)
    return BuiltPort(build_model(reference, device, job.precision, weights=state_dict_of(job.port_weights)))


def _known_logits(
    cache: GoldenCache | None, reference: Reference, inputs: tuple[int, ...] | torch.Tensor
) -> torch.Tensor | None:
    """What this reference gave for these token ids in an earlier run, where a golden of it is kept."""
    import torch

    from tttdebug.references.golden_key import parts_as_loaded

    if cache is None or isinstance(inputs, torch.Tensor):
        return None
    golden = cache.find_like(parts_as_loaded(reference, torch.tensor(inputs)))
    return None if golden is None else golden.call(0).logits_TV


def _injected(what: str, port: Any, seed: int) -> str:
    """Put a fault into the port; gives its name with the boundary where it is now."""
    from tttdebug.faults import inject

    return f"{what.partition('@')[0]}@{inject(port, what, seed).boundary}"


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


def _audited(job: Job, port: Any, reference: Reference, progress: Progress) -> Audit | None:
    """The audit of the port's weights: some rows of each, which costs little; with --audit all of them, and of a port
    that declares nothing too.
    """
    from tttdebug.tracking import audit

    if job.port is not None and not job.audit:
        return None
    progress("audit the weights", None)
    return audit(port, reference, quick=not job.audit)
