# SPDX-License-Identifier: Apache-2.0
"""The first boundary whose bits vary when a port reads the same prompt again, and whether it is state or chance.

S sequence; C channels, H height and W width of an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from tttdebug.analysis.finding import COUNT, Experiment, Finding, Fix
from tttdebug.backends import is_device_tensor
from tttdebug.errors import PairingError
from tttdebug.tracking.hooks import PortTap
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.pairing import PairedModules
from tttdebug.tracking.spread import Spread, read_output

if TYPE_CHECKING:
    import torch

    from tttdebug.tracking.driving import Driver

RETURNED = "logits"
Inputs: TypeAlias = "Sequence[int] | torch.Tensor"
"""Token ids [S], or an image [C, H, W]."""


@dataclass(frozen=True)
class Heard:
    """One output of one run: at which boundary, and a digest of its bits."""

    boundary: str
    digest: str


def first_varying(
    port: Any, driver: Driver, paired: Sequence[PairedModules], inputs: Inputs, runs: int = 3
) -> Finding | None:
    """The first boundary, in order of execution, whose bits differ between runs of one prompt; None where none does.

    Each run begins as a comparison does, with what the driver's `start` gives. Where the first run alone differs, it
    left something behind that the others read: state_leak. Otherwise it is nondeterministic. Only digests are kept.

    Raises PairingError where no paired module gives a tensor, and ValueError for less than 3 runs, which could not tell
    the two apart.
    """
    if runs < 3:
        raise ValueError(f"{runs} runs cannot tell state from chance: give 3 or more")
    heard = [outputs_of(port, driver, paired, inputs) for _ in range(runs)]
    at = first_difference(heard)
    if at is None:
        return None
    boundary = heard[0][at].boundary if at < len(heard[0]) else heard[1][at].boundary
    digests = [run[at].digest if at < len(run) else "" for run in heard]
    leaks = len(set(digests[1:])) == 1
    distinct = len(set(digests))
    what = f"different results of {runs} runs of {described(inputs)}"
    experiments = (Experiment(what, float(distinct), 1.0, 1.0, COUNT),)
    module = next((each.pair for each in paired if each.pair.boundary == boundary), None)
    says = (
        f"the first run gives other bits than the {runs - 1} after it, which agree: something that it left behind is "
        f"read, first at {boundary}"
        if leaks
        else f"{runs} runs of the same input give {distinct} different results, first at {boundary}: by chance, or "
        "because each run changes what the next one reads"
    )
    return Finding(
        boundary,
        "state_leak" if leaks else "nondeterministic",
        says,
        module=module.port if module else "",
        reference_path=module.reference if module else "",
        experiments=experiments,
        fix=Fix(_advice(boundary, leaks)),
        where=(f"all {at} outputs before it have the same bits in every run",),
    )


def outputs_of(port: Any, driver: Driver, paired: Sequence[PairedModules], inputs: Inputs) -> tuple[Heard, ...]:
    """What the paired modules of a port give in one prefill of one input, in order of execution, and what it returns.

    Raises PairingError where none of them gives a tensor.
    """
    import torch

    heard: list[Heard] = []
    elements = {each.pair.boundary: each.pair.layout.port_element for each in paired}

    def keep(boundary: str, output: Any, seconds: float) -> None:
        tensor, _ = element_of(output, elements.get(boundary), "port")
        if is_device_tensor(tensor) or isinstance(tensor, torch.Tensor):
            heard.append(Heard(boundary, digest_of(read_output(tensor))))

    driver.start(1, len(inputs))
    with PortTap({each.pair.boundary: each.port for each in paired}, keep):
        returned = driver.prefill(torch.as_tensor(inputs)[None], 0)
    if not heard:
        raise PairingError("no paired module of the port gave a tensor, so nothing can be compared between runs")
    keep(RETURNED, returned, 0.0)
    return tuple(heard)


def described(inputs: Inputs) -> str:
    """What a port reads, in words."""
    import torch

    if torch.as_tensor(inputs).is_floating_point():
        return "one image"
    return f"one prompt of {len(inputs)} tokens"


def first_difference(runs: Sequence[Sequence[Heard]]) -> int | None:
    """Where in the order of execution runs differ first, in what was called or in its bits; None where nowhere."""
    for at in range(max(map(len, runs))):
        if len({run[at] if at < len(run) else None for run in runs}) > 1:
            return at
    return None


def digest_of(values: torch.Tensor | Spread) -> str:
    """A digest of the bits, the shape and the dtype; of each shard where there are several."""
    digest = hashlib.blake2b(digest_size=16)
    for shard in values.shards if isinstance(values, Spread) else (values,):
        digest.update(f"{shard.dtype}{tuple(shard.shape)}".encode())
        digest.update(_bytes(shard))
    return digest.hexdigest()


def _bytes(values: torch.Tensor) -> memoryview:
    import torch

    flat = values.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _advice(boundary: str, leaks: bool) -> str:
    if leaks:
        return (
            f"make {boundary} read nothing that an earlier prompt wrote: clear the cache when a prompt begins, or "
            "mask what lies beyond its length"
        )
    return (
        f"look in {boundary} for memory that is read before it is written, for padding that is not cleared, and for "
        "ops whose order of sums depends on timing"
    )
