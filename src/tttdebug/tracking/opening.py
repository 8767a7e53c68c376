# SPDX-License-Identifier: Apache-2.0
"""What a comparison starts with: the head of its run, and the reference in the port's formats beside the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.driving import described, what_is_missing
from tttdebug.tracking.floor import DeclaredWeight, FloorError, floor_error, floor_model
from tttdebug.tracking.heads_in_config import HeadsInConfig
from tttdebug.tracking.held_formats import weights_as_held
from tttdebug.tracking.manifest import Manifest, Unpaired
from tttdebug.tracking.pairing import PairedModules
from tttdebug.tracking.streamed_floor import streamed_floor

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tttdebug.references import Reference
    from tttdebug.tracking.weight_audit import Audit


def floor_of(
    port: Any, reference: Reference, paired: Sequence[PairedModules], weights: Audit | None = None
) -> tuple[nn.Module, dict[str, nn.Module]]:
    """The reference in bfloat16, with the weights as the port's formats leave them where the port, or an audit of its
    weights, says which.

    With it its module at each boundary.
    """

    def declare(state: Mapping[str, torch.Tensor]) -> Mapping[str, DeclaredWeight]:
        declares = getattr(port, "declared_weights", None)
        return declares(state) if declares else {} if weights is None else weights_as_held(weights, state)

    if reference.stream is not None:
        model = streamed_floor(reference.stream, declare)
    else:
        model = floor_model(reference.model, declare(reference.model.state_dict()))
    named = dict(model.named_modules(remove_duplicate=False))
    return model, {modules.pair.boundary: named[modules.pair.reference] for modules in paired}


def floors_of(floor: Mapping[str, torch.Tensor], truth: Mapping[str, torch.Tensor]) -> dict[str, FloorError]:
    """The error of each boundary that the floor's activations have against the true ones."""
    return {boundary: floor_error(truth[boundary], output) for boundary, output in floor.items()}


def manifest_of(
    port: Any,
    reference: Reference,
    prompts: Sequence[Mapping[str, Any]],
    *,
    decode_steps: int,
    expected: int,
    command: str,
    seed: int | None,
    job: Mapping[str, Any] | None = None,
    unpaired: Sequence[Unpaired] = (),
    weights: Audit | None = None,
    golden: Mapping[str, Any] | None = None,
    wiring: str = "",
) -> Manifest:
    """The head of a run that is about to start; each prompt with its `text` and how many `tokens` it has, and the
    `wiring` of its layers where that is known.
    """
    hardware = getattr(port, "hw_config", None)
    heads = HeadsInConfig.of(reference.model)
    counts = {"heads": heads.heads, "kv_heads": heads.kv_heads, "head_dim": heads.head_dim, "rotary": heads.turn}
    return Manifest(
        created=datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
        model={
            "name": reference.name,
            "source": reference.source,
            "weights_digest": reference.weights_digest,
            "layers": reference.model.config.num_hidden_layers,
            "architecture": type(reference.model).__name__,
            "streamed": reference.stream is not None,
            **{name: count for name, count in counts.items() if count is not None},
            **({"wiring": wiring} if wiring else {}),
        },
        device=described(port).to_json(),
        precision=getattr(hardware, "name", ""),
        prompts=tuple(prompts),
        decode_steps=decode_steps,
        command=command,
        seed=seed,
        job={} if job is None else dict(job),
        hardware=hardware.to_dict() if hardware is not None else {},
        expected=expected,
        golden={} if golden is None else golden,
        unpaired=tuple(unpaired),
        notes=what_is_missing(port, audited=weights is not None),
    )
