# SPDX-License-Identifier: Apache-2.0
"""Values of one side in the place of the other's, element by element, where the port may hold a part of them only.

T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tttdebug.analysis.turns import Turn, UserTurn
from tttdebug.backends import is_device_tensor, unreadable
from tttdebug.errors import AnalysisError, LayoutError, PairingError
from tttdebug.tracking.layout import align
from tttdebug.tracking.output_elements import element_of
from tttdebug.tracking.pairing import AS_IT_IS, PairLayout
from tttdebug.tracking.placing import like
from tttdebug.tracking.reference_calls import replaced
from tttdebug.tracking.spread import Spread, read_output

if TYPE_CHECKING:
    import torch


def cannot_swap(boundary: str, reason: object) -> AnalysisError:
    """The error that names a module which cannot be swapped, why, and what to do."""
    return AnalysisError(
        f"{boundary} cannot be swapped: {reason}; swap the module around it, or say with pairs=… how its tensors lie"
    )


def rows_of(turn: Turn, part: UserTurn) -> dict[str, Any]:
    """How a user's rows are found in a tensor of the port."""
    return {"phase": turn.phase, "user": part.row, "users": turn.read_together, "tokens": part.tokens}


def read_whole(tensor: Any) -> torch.Tensor:
    """The values of a device tensor. Raises LayoutError where it cannot be read, or lies on several devices."""
    if not is_device_tensor(tensor):
        raise LayoutError(f"the port's value there is a {type(tensor).__name__}, no tensor on the device")
    if reason := unreadable(tensor):
        raise LayoutError(f"the port's tensor there was {reason}")
    values = read_output(tensor)
    if isinstance(values, Spread):
        raise LayoutError(f"the port's tensor lies on {len(values.shards)} devices, {values}")
    return values


def port_with(
    port: torch.Tensor, reference: torch.Tensor, turn: Turn, part: UserTurn, layout: PairLayout = AS_IT_IS
) -> torch.Tensor:
    """A copy of the port's values with the reference's [1, T, C] wherever the port has a place for them.

    Padding and other users' rows stay. Raises LayoutError with both shapes where the layouts do not fit.
    """
    from_, to = places(reference, port, turn, part, layout)
    changed = port.detach().clone().float()
    changed.view(-1)[to] = reference.reshape(-1)[from_].float()
    return changed


def reference_with(
    reference: torch.Tensor, port: torch.Tensor, turn: Turn, part: UserTurn, layout: PairLayout = AS_IT_IS
) -> torch.Tensor:
    """A copy of the reference's [1, T, C] with the port's values where the port has some: of the last token alone, say.

    Raises LayoutError with both shapes where the layouts do not fit.
    """
    to, from_ = places(reference, port, turn, part, layout)
    changed = reference.detach().clone()
    changed.view(-1)[to] = port.reshape(-1)[from_].to(changed.dtype)
    return changed


def output_with(
    output: Any, boundary: str, turn: Turn, references: Mapping[int, torch.Tensor], layout: PairLayout
) -> Any:
    """The output of a module of the port, with the reference's [1, T, C] of each user in it.

    What else it holds stays, padding and rows of no user, but zeros stand for what is not finite there: it would reach
    the tokens through attention, where a weight of zero times nan is nan. Raises AnalysisError where it cannot be done.
    """
    import torch

    try:
        tensor, _ = element_of(output, layout.port_element, "port")
        values = torch.nan_to_num(read_whole(tensor), nan=0.0, posinf=0.0, neginf=0.0)
        for user, reference in references.items():
            values = port_with(values, reference, turn, turn.users[user], layout)
    except (LayoutError, PairingError) as error:
        raise cannot_swap(boundary, error) from error
    return replaced(output, tensor, like(tensor, values))


def places(
    reference: torch.Tensor, port: torch.Tensor, turn: Turn, part: UserTurn, layout: PairLayout
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which elements of the two answer to each other: the places in either one, found by aligning the places."""
    import torch

    layout, how = replace(layout, port_element=None, reference_element=None), rows_of(turn, part)
    if layout.head_order == "auto":  # which the values decide
        adapters = align(reference, port, layout=layout, **how).adapters
        turned = any(adapter.startswith("unrotate_heads") for adapter in adapters)
        layout = replace(layout, head_order="interleaved" if turned else "same")
    theirs, ours = (
        torch.arange(side.numel(), dtype=torch.float64).view(side.shape) for side in (reference, port)
    )  # exact up to 2^53
    padding = port[..., reference.shape[-1] :]
    if layout.port_columns is None and padding.numel() and bool((padding == padding.reshape(-1)[0]).all()):
        ours[..., reference.shape[-1] :] = -1  # a vocabulary's padding is told by being all alike
    aligned = align(theirs, ours, layout=layout, **how)
    return aligned.reference_TC.long().flatten(), aligned.port_TC.long().flatten()
