# SPDX-License-Identifier: Apache-2.0
"""Bringing the port's output into the reference's layout: every step has a name, and none drops a value in silence.

T tokens, C channels, R rows of the port's tensor, B users, K heads, L cache length, E head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tttdebug.errors import LayoutError

if TYPE_CHECKING:
    import torch

TILE = 32
PADDED_TO = (TILE, 128)  # tiles; TT-Transformers pads prompts to 128


@dataclass(frozen=True)
class Aligned:
    """Both tensors as [tokens, channels], and what was done to get there."""

    reference_TC: torch.Tensor
    port_TC: torch.Tensor
    adapters: tuple[str, ...]


def align(reference: torch.Tensor, port: torch.Tensor, *, phase: str = "prefill", user: int = 0) -> Aligned:
    """One user's output of the reference, [1, T, C] or [T, C], beside the port's, padded or of all users.

    Raises LayoutError with both shapes when no known step leads from one to the other.
    """
    reference_TC = reference.reshape(-1, reference.shape[-1])
    port_RC, squeezed = _as_rows(port, reference)
    port_RC, unpadded = _without_channel_padding(port_RC, reference, port)
    more = (*squeezed, *unpadded)
    rows, tokens = port_RC.shape[0], reference_TC.shape[0]
    if phase == "decode":
        if tokens != 1 or user >= rows:
            raise _mismatch(
                reference, port, f"a decode step of user {user} needs one reference token and a port row for that user"
            )
        return Aligned(
            reference_TC, port_RC[user : user + 1], (*more, f"user_row {user} of {rows}") if rows > 1 else more
        )
    if rows == tokens:
        return Aligned(reference_TC, port_RC, more)
    if any(rows == -(-tokens // multiple) * multiple for multiple in PADDED_TO):
        return Aligned(reference_TC, port_RC[:tokens], (*more, f"unpad_tokens {rows}→{tokens}"))
    if rows == 1:
        return Aligned(reference_TC[-1:], port_RC, (*more, f"reference_last_token of {tokens}"))
    if rows == TILE and tokens > TILE:
        row = (tokens - 1) % TILE
        return Aligned(
            reference_TC[-1:],
            port_RC[row : row + 1],
            (*more, f"reference_last_token of {tokens}", f"row {row} of {rows}"),
        )
    raise _mismatch(
        reference,
        port,
        f"{rows} rows are neither the {tokens} tokens, nor these padded to "
        f"{' or '.join(map(str, PADDED_TO))}, nor the last one",
    )


def align_cache(
    reference: torch.Tensor,
    cache_BKLE: torch.Tensor,
    *,
    user: int,
    start: int,
    interleaved: bool,
    rotary_dim: int | None = None,
) -> Aligned:
    """What one call wrote into a user's cache from position `start` on, beside the reference's [1, T, K·E].

    Heads that the port padded to whole tiles are cut back to the reference's; what lies there is no head's value.
    Raises LayoutError with both shapes when the cache has not that user, those positions or those heads.
    """
    reference_TC = reference[0]
    tokens, channels = reference_TC.shape
    users, heads, length, head_dim = cache_BKLE.shape
    own_dim, left_over = divmod(channels, heads)
    fits = not left_over and head_dim in (own_dim, -(-own_dim // TILE) * TILE)
    if user >= users or start + tokens > length or not fits:
        raise _mismatch(reference, cache_BKLE, f"it has no {tokens} positions from {start} on for user {user}")
    written_TKE = cache_BKLE[user, :, start : start + tokens].transpose(0, 1)
    adapters = [f"user {user} of {users}", f"positions {start}:{start + tokens} of {length}"]
    if head_dim != own_dim:
        written_TKE = written_TKE[..., :own_dim]
        adapters.append(f"unpad_heads {head_dim}→{own_dim}")
    if interleaved:
        written_TKE = unrotate_heads(written_TKE, rotary_dim)
        adapters.append("unrotate_heads")
    return Aligned(reference_TC, written_TKE.flatten(1), tuple(adapters))


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


def _as_rows(port: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, tuple[str, ...]]:
    if port.ndim == 0:
        raise _mismatch(reference, port, "the port's output is a single number")
    if port.shape == reference.shape:
        return port.reshape(-1, port.shape[-1]), ()
    outer = [size for size in port.shape[:-1] if size != 1]
    return port.reshape(-1, port.shape[-1]), ("squeeze",) if len(outer) <= 1 else (f"fold {'x'.join(map(str, outer))}",)


def _without_channel_padding(
    port_RC: torch.Tensor, reference: torch.Tensor, port: torch.Tensor
) -> tuple[torch.Tensor, tuple[str, ...]]:
    given, wanted = port_RC.shape[-1], reference.shape[-1]
    if given == wanted:
        return port_RC, ()
    if given == -(-wanted // TILE) * TILE:
        return port_RC[:, :wanted], (f"unpad_channels {given}→{wanted}",)
    raise _mismatch(reference, port, f"{given} channels are neither {wanted} nor these padded to {TILE}")


def _mismatch(reference: torch.Tensor, port: torch.Tensor, reason: str) -> LayoutError:
    return LayoutError(
        f"the port's output {tuple(port.shape)} does not fit the reference's {tuple(reference.shape)}: {reason}"
    )
