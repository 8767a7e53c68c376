# SPDX-License-Identifier: Apache-2.0
"""Bringing the port's output into the reference's layout: every step has a name, and none drops a value in silence.

T tokens, C channels, R rows of the port's tensor, B users, K heads, L cache length, E head dimension.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tttdebug.errors import LayoutError
from tttdebug.tracking.aligned import Aligned, CacheLayout
from tttdebug.tracking.head_order import in_reference_order, unrotate_heads
from tttdebug.tracking.pairing import AS_IT_IS, PairLayout
from tttdebug.tracking.spread import Spread, align_spread

if TYPE_CHECKING:
    import torch

TILE = 32
PADDED_TO = (TILE, 128)  # tiles; TT-Transformers pads prompts to 128
__all__ = ["Aligned", "align", "align_cache", "unrotate_heads"]


def align(
    reference: torch.Tensor,
    port: torch.Tensor | Spread,
    *,
    phase: str = "prefill",
    user: int = 0,
    users: int = 1,
    tokens: int | None = None,
    layout: PairLayout = AS_IT_IS,
) -> Aligned:
    """One user's output of the reference, [1, T, C] or [T, C], beside the port's, padded or of all users.

    `user` is the row of a decode step, and the place in a prefill of several `users` at once. `tokens`, where it is
    known, tells which dimension of a reference's [1, T, K, E] or [1, K, T, E] is which.

    Raises LayoutError with both shapes when no known step leads from one to the other.
    """
    if isinstance(port, Spread):
        whole = partial(_align_given, reference, phase=phase, user=user, users=users, tokens=tokens)
        return align_spread(reference, port, layout, phase, whole)
    return _align_given(reference, port, layout, phase=phase, user=user, users=users, tokens=tokens)


def _align_given(
    reference: torch.Tensor,
    port: torch.Tensor,
    layout: PairLayout,
    *,
    phase: str,
    user: int,
    users: int,
    tokens: int | None,
) -> Aligned:
    wanted, given, chosen = reference, port, list[str]()
    if layout.reference_columns is not None:
        wanted, named = _columns(reference, layout.reference_columns, "reference", reference, port)
        chosen.append(named)
    wanted = _heads_of_reference(wanted, port, tokens)
    if layout.port_columns is not None:
        given, named = _columns(port, layout.port_columns, "port", reference, port)
        chosen.append(named)
    given, joined = _heads_side_by_side(given, wanted.shape[-1], phase, layout.head_dim)
    try:
        aligned = _align_rows(wanted, given, phase, user, users)
        port_TC, ordered = in_reference_order(aligned.reference_TC, aligned.port_TC, layout)
    except LayoutError as error:
        if wanted is reference and given is port:
            raise
        raise _mismatch(reference, port, str(error)) from error
    return replace(aligned, port_TC=port_TC, adapters=(*chosen, *joined, *aligned.adapters, *ordered))


def _align_rows(reference: torch.Tensor, port: torch.Tensor, phase: str, user: int, users: int) -> Aligned:
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
    if users > 1:
        return _one_of_several(reference, port, reference_TC, port_RC, more, user, users)
    if rows == tokens:
        return Aligned(reference_TC, port_RC, more)
    if reference.ndim == 3 and reference.shape[0] > 1 and not rows % reference.shape[0]:
        batch, length = reference.shape[:2]
        if rows // batch in padded_lengths(length):
            port_BSC = port_RC.reshape(batch, -1, port_RC.shape[-1])[:, :length]
            step = f"unpad_tokens {rows // batch}→{length} of each of {batch} users"
            return Aligned(reference_TC, port_BSC.flatten(0, 1), (*more, step))
    if rows in padded_lengths(tokens):
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


def _one_of_several(
    reference: torch.Tensor,
    port: torch.Tensor,
    reference_TC: torch.Tensor,
    port_RC: torch.Tensor,
    more: tuple[str, ...],
    user: int,
    users: int,
) -> Aligned:
    """One user's rows of a prefill of several, folded into one sequence, each padded alike; or each one's last."""
    rows, tokens = port_RC.shape[0], reference_TC.shape[0]
    length, left_over = divmod(rows, users)
    if user < users and not left_over and length in (tokens, *padded_lengths(tokens)):
        start, step = user * length, f"unfold user {user} of {users}"
        unpadded = () if length == tokens else (f"unpad_tokens {length}→{tokens}",)
        return Aligned(reference_TC, port_RC[start : start + tokens], (*more, step, *unpadded))
    if user < users and rows in (users, *padded_lengths(users)):
        step = f"user_row {user} of {rows}"
        return Aligned(reference_TC[-1:], port_RC[user : user + 1], (*more, f"reference_last_token of {tokens}", step))
    raise _mismatch(
        reference,
        port,
        f"{rows} rows are neither the {tokens} tokens of each of {users} users, nor these padded to "
        f"{' or '.join(map(str, PADDED_TO))}, nor the last of each, for user {user}",
    )


def padded_lengths(count: int) -> tuple[int, ...]:
    """How long a sequence of `count` may be after padding."""
    return tuple(-(-count // multiple) * multiple for multiple in PADDED_TO)


def align_cache(
    reference: torch.Tensor,
    cache_BKLE: torch.Tensor | Spread,
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
    if isinstance(cache_BKLE, Spread):  # each device of a mesh keeps the heads it computes

        def align_whole(whole_BKLE: torch.Tensor, _: PairLayout) -> Aligned:
            return align_cache(
                reference, whole_BKLE, user=user, start=start, interleaved=interleaved, rotary_dim=rotary_dim
            )

        return align_spread(reference, cache_BKLE, AS_IT_IS, "prefill", align_whole, dims=(1,))
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
    read_as = CacheLayout(heads, start, interleaved, rotary_dim)
    return Aligned(reference_TC, written_TKE.flatten(1), tuple(adapters), cache=read_as)


def _columns(
    values: torch.Tensor, columns: tuple[int, int], side: str, reference: torch.Tensor, port: torch.Tensor
) -> tuple[torch.Tensor, str]:
    """The channels that a pair names of a wider tensor, and the adapter's name."""
    first, last = columns
    if last > values.shape[-1]:
        raise _mismatch(
            reference, port, f"the pair takes channels {first}:{last} of the {side}'s, which has {values.shape[-1]}"
        )
    return values[..., first:last], f"{side}_columns {first}:{last} of {values.shape[-1]}"


def _heads_of_reference(reference: torch.Tensor, port: torch.Tensor, tokens: int | None) -> torch.Tensor:
    """A reference's [1, T, K, E] or [1, K, T, E] as [1, T, K·E]; any other tensor as it is."""
    if reference.ndim != 4 or tokens is None or tokens not in reference.shape[1:3]:
        return reference
    second, third = reference.shape[1:3]
    if second == third and second > 1:
        raise _mismatch(
            reference,
            port,
            f"{second} tokens and as many heads: which dimension is which cannot be told; take a prompt of another "
            "length",
        )
    by_token = reference if second == tokens else reference.transpose(1, 2)
    return by_token.flatten(2)


def _heads_side_by_side(
    port: torch.Tensor, channels: int, phase: str, head_dim: int | None
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """A port's heads as channels: of [1, K, T, E] in prefill and [1, B, K, E] in decode, K and E whole tiles or not.

    `head_dim` is what the pair says of E, where it does.
    """
    if port.ndim != 4:
        return port, ()
    place = 2 if phase == "decode" else 1
    given, given_dim = port.shape[place], port.shape[-1]
    is_whole = given_dim in (channels, _whole_tiles(channels))  # then only a pair that says so means heads
    if is_whole and port.shape[1] == 1:
        return port, ()
    for own_dim in (head_dim,) if is_whole else (head_dim, given_dim, channels // given):
        if not own_dim or channels % own_dim or given_dim not in (own_dim, _whole_tiles(own_dim)):
            continue
        heads = channels // own_dim
        one_is_padded = heads == 1 < given and own_dim == head_dim and port.shape[1] > 1
        padded = (heads, _whole_tiles(heads)) if phase == "decode" else (heads,)
        if given in padded and (heads > 1 or one_is_padded):
            of_each = port if phase == "decode" else port.transpose(1, 2)
            unpadded = () if given_dim == own_dim else (f"unpad_heads {given_dim}→{own_dim}",)
            named = f"heads {heads} side by side" if heads == given else f"heads {heads} of {given} side by side"
            return of_each[:, :, :heads, :own_dim].flatten(2), (named, *unpadded)
    return port, ()


def _whole_tiles(size: int) -> int:
    return -(-size // TILE) * TILE


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
    if given > wanted and not given % TILE and (constant := _constant(port_RC[:, wanted:])) is not None:
        # a vocabulary is padded to whole tiles on each device, with weights of zero or a score that no token has
        return port_RC[:, :wanted], (f"unpad_vocabulary {given}→{wanted} (all {constant:g})",)
    raise _mismatch(
        reference,
        port,
        f"{given} channels are neither {wanted}, nor these padded to {TILE}, nor these and whole tiles all alike",
    )


def _constant(values: torch.Tensor) -> float | None:
    """The value that all of them have; None where they differ, or are no numbers."""
    first = values.reshape(-1)[0]
    return float(first) if bool((values == first).all()) else None


def _mismatch(reference: torch.Tensor, port: torch.Tensor, reason: str) -> LayoutError:
    return LayoutError(
        f"the port's output {tuple(port.shape)} does not fit the reference's {tuple(reference.shape)}: {reason}"
    )
