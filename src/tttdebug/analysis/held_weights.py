# SPDX-License-Identifier: Apache-2.0
"""The weights of one module as the device holds them, where they are not what the port declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.backends import is_device_tensor, to_torch, unreadable
from tttdebug.emulator.formats import FORMATS
from tttdebug.tracking.weight_audit import PlacedPart, PlacedTensor
from tttdebug.tracking.weight_causes import Cause, Suspect, cause_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeldWeight:
    """A weight that is not what it should be: its values in the reference's layout, fp32, and what they are found to
    be."""

    values: torch.Tensor
    cause: Cause


def wrong_weights(port: Any, path: str, state: Mapping[str, torch.Tensor]) -> dict[str, HeldWeight] | None:
    """The weights of the module at `path` that differ from the checkpoint `state` in the declared format, by the names
    that the module gives them; none of them where all are sound, None where the port does not say what it holds.

    What cannot be read is left out.
    """
    if not hasattr(port, "placed_weights"):
        return None
    placed = list(port.placed_weights())
    parts = [part for tensor in placed for part in tensor.parts]
    found: dict[str, HeldWeight] = {}
    for tensor in placed:
        if tensor.path.startswith(f"{path}.") and not tensor.is_sum:
            found |= {
                suspect.part.name.removeprefix(f"{path}."): HeldWeight(
                    suspect.part.layout.to_reference(suspect.held), cause_of(suspect, parts, state)
                )
                for suspect in _suspects(tensor, state)
            }
    return found


def _suspects(placed: PlacedTensor, state: Mapping[str, torch.Tensor]) -> Iterator[Suspect]:
    """Each part of a device tensor whose bits are not those that its format makes of the checkpoint's."""
    import torch

    known: tuple[PlacedPart, ...] = tuple(part for part in placed.parts if part.source in state)
    if known != placed.parts or not is_device_tensor(placed.tensor) or unreadable(placed.tensor):
        return
    actual = to_torch(placed.tensor).float()
    wanted = [part.layout.to_port(part.matrix(state[part.source]).float()) for part in placed.parts]
    expected = torch.cat(wanted, dim=-1) if len(wanted) > 1 else wanted[0]
    if actual.shape != expected.shape:
        return
    widths = [part.shape[-1] for part in wanted]
    declared = FORMATS[placed.parts[0].dtype].quantise(expected)
    sides = (side.split(widths, -1) for side in (expected, declared, actual))
    for part, whole, packed, held in zip(placed.parts, *sides, strict=True):
        if not torch.equal(held, packed) and not torch.equal(held, whole):
            yield Suspect(part, held, whole, placed.parts)
