# SPDX-License-Identifier: Apache-2.0
"""The two rotary orders of a head's channels, and telling which one a port's queries or keys are in.

T tokens, K heads, E head dimension, C = K·E channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tttdebug.errors import LayoutError
from tttdebug.tracking.pairing import PairLayout

if TYPE_CHECKING:
    import torch

_CLEARLY_OFF, _CLEARLY_NEAR = 0.3, 0.1
"""rel_l2 beyond which a layout is wrong without doubt, and below which it is right: formats cost a few hundredths."""


def unrotate_heads(keys_TKE: torch.Tensor, rotary_dim: int | None = None) -> torch.Tensor:
    """The head permutation: keys from interleaved rotary order (Meta's) to half-split order (Hugging Face's).

    Where only the first `rotary_dim` channels of a head turn, the others stay in their places.
    """
    import torch

    turned, still = (
        keys_TKE[..., :rotary_dim],
        keys_TKE[..., keys_TKE.shape[-1] if rotary_dim is None else rotary_dim :],
    )
    return torch.cat([turned.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2), still], dim=-1)


def rotate_heads(keys_TKE: torch.Tensor, rotary_dim: int | None = None) -> torch.Tensor:
    """The inverse of `unrotate_heads`: from half-split rotary order to interleaved order."""
    import torch

    turns = keys_TKE.shape[-1] if rotary_dim is None else rotary_dim
    turned, still = keys_TKE[..., :turns], keys_TKE[..., turns:]
    return torch.cat([turned.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2), still], dim=-1)


def in_reference_order(
    reference_TC: torch.Tensor, port_TC: torch.Tensor, layout: PairLayout
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The port's channels in the reference's order of each head, and the adapter that was used for it, if any.

    Raises LayoutError when the channels are not whole heads.
    """
    if layout.head_order == "same":
        return port_TC, ()
    head_dim, channels = layout.head_dim or 0, port_TC.shape[-1]
    if channels % head_dim:
        raise LayoutError(f"{channels} channels are not whole heads of {head_dim}; give the pair its head_dim")
    unrotated_TC = unrotate_heads(port_TC.unflatten(-1, (-1, head_dim)), layout.rotary_dim).flatten(-2)
    if layout.head_order == "interleaved":
        return unrotated_TC, ("unrotate_heads",)
    orders = {"same": port_TC, "interleaved": unrotated_TC}
    chosen, errors = clear_choice(reference_TC, orders)
    if chosen != "interleaved":
        return port_TC, ()
    return unrotated_TC, (f"unrotate_heads (rel_l2 {errors['interleaved']:.3f}, as it is {errors['same']:.3f})",)


def clear_choice(
    reference: torch.Tensor, layouts: Mapping[str, torch.Tensor]
) -> tuple[str | None, Mapping[str, float]]:
    """The one layout that is near the reference while all others are clearly not, or None; and the rel_l2 of each."""
    errors = {name: _rel_l2(reference, values) for name, values in layouts.items()}
    best = min(errors, key=lambda name: errors[name])
    others = [error for name, error in errors.items() if name != best]
    no_doubt = errors[best] < _CLEARLY_NEAR and all(error > _CLEARLY_OFF for error in others)
    return (best if no_doubt else None), errors


def are_near(reference: torch.Tensor, port: torch.Tensor) -> bool:
    """Whether two tensors of one shape are the same thing, up to what number formats cost."""
    return _rel_l2(reference, port) < _CLEARLY_NEAR


def _rel_l2(reference: torch.Tensor, port: torch.Tensor) -> float:
    """‖port − reference‖/‖reference‖; infinite where that is no number, so that it is never the nearest."""
    truth, values = reference.double(), port.double()
    error = float((values - truth).norm() / truth.norm())
    return error if error == error else float("inf")
