# SPDX-License-Identifier: Apache-2.0
"""The port's key/value caches: read beside the reference's, and filled with them in the port's own layout.

B users, K key/value heads, L cache length, T tokens, E head dimension, C channels of all heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tttdebug.backends import device_of, namespace_of, to_torch
from tttdebug.errors import LayoutError
from tttdebug.modules.placement import interleave_heads, split_heads_in_halves
from tttdebug.tracking.layout import Aligned, align_cache
from tttdebug.tracking.pairing import CachePair, module_at
from tttdebug.tracking.placing import like
from tttdebug.tracking.reference_calls import TorchCall
from tttdebug.tracking.spread import read_output
from tttdebug.tracking.subject import Subject
from tttdebug.tracking.torch_cache import is_cache, keys_and_values, set_part, with_forks

if TYPE_CHECKING:
    import torch


def reference_part(cache: Any, pair: CachePair, start: int = 0, stop: int | None = None) -> torch.Tensor | None:
    """Keys or values [1, T, C] of positions `start` to `stop` in a transformers cache, None where it holds none."""
    written = keys_and_values(cache, pair.layer)
    if written is None or not written[0].numel():
        return None
    whole_1KTE = written[0 if pair.part == "keys" else 1]
    return whole_1KTE[:, :, start:stop].transpose(1, 2).flatten(2)


def read_cache(subject: Subject, pair: CachePair, reference_1TC: torch.Tensor, row: int, start: int) -> Aligned:
    """What the port's cache holds from position `start` on, beside the reference's.

    Raises LayoutError where the cache has not that user, those positions or those heads.
    """
    held = read_output(module_at(subject.port, pair.port, pair.boundary))
    return align_cache(
        reference_1TC, held, user=row, start=start, interleaved=pair.interleaved, rotary_dim=pair.rotary_dim
    )


def read_behind(subject: Subject, pair: CachePair, cache: Any, row: int, start: int) -> torch.Tensor | None:
    """What the port's cache holds from position `start` on, [1, T, C], where the reference's `cache` holds nothing.

    None where it ends there, lies on several devices, or does not fit.
    """
    import torch

    held = read_output(module_at(subject.port, pair.port, pair.boundary))
    known_1TC = reference_part(cache, pair)
    if known_1TC is None or not isinstance(held, torch.Tensor) or held.dim() != 4 or held.shape[2] <= start:
        return None
    nothing_1TC = known_1TC.new_zeros(1, held.shape[2] - start, known_1TC.shape[2])
    try:
        return read_cache(subject, pair, nothing_1TC, row, start).port_TC[None]
    except LayoutError:  # which the run told of when it compared that cache
        return None


def fill_caches(subject: Subject, caches: Mapping[int, Any]) -> None:
    """Write the reference's caches into the port's; `caches` gives the one for each of its slots."""
    import torch

    for pair in subject.caches:
        tensor = module_at(subject.port, pair.port, pair.boundary)
        values_BKLE = to_torch(tensor).float()
        places = torch.arange(values_BKLE.numel(), dtype=torch.float64).view(values_BKLE.shape)
        for row, cache in caches.items():
            held_1TC = reference_part(cache, pair)
            if held_1TC is None:
                continue
            aligned = align_cache(
                held_1TC, places, user=row, start=0, interleaved=pair.interleaved, rotary_dim=pair.rotary_dim
            )
            values_BKLE.view(-1)[aligned.port_TC.long().flatten()] = aligned.reference_TC.flatten().float()
        namespace_of(device_of(tensor)).copy(like(tensor, values_BKLE), tensor)


def with_port_cache(subject: Subject, after: str, truth: TorchCall, cache_before: Any, row: int) -> TorchCall:
    """The reference's call of the module at boundary `after` with what the port's cache holds before it.

    As it is where the module has no cache, nothing stands in it yet, or the port's does not fit.
    """
    args, kwargs = with_forks(truth.args, truth.kwargs)
    cache = next(filter(is_cache, (*args, *kwargs.values())), None)
    for pair in subject.caches:
        held_1TC = reference_part(cache_before, pair) if pair.after == after else None
        if cache is None or held_1TC is None:
            continue
        try:
            aligned = read_cache(subject, pair, held_1TC, row, 0)
        except LayoutError:  # which the run told of when it compared that cache
            continue
        shape = _heads(cache, pair)
        set_part(
            cache, pair.layer, pair.part, aligned.port_TC.unflatten(-1, shape)[None].transpose(1, 2).to(held_1TC.dtype)
        )
    return replace(truth, args=args, kwargs=kwargs)


def _heads(cache: Any, pair: CachePair) -> tuple[int, int]:
    """Heads and head dimension of one layer of a transformers cache that holds something."""
    written = keys_and_values(cache, pair.layer)
    assert written is not None
    part = written[0 if pair.part == "keys" else 1]
    return int(part.shape[1]), int(part.shape[-1])


def round_cache(subject: Subject, pair: CachePair, cache: Any) -> None:
    """Round one layer of a transformers cache, in place, to the number format in which the port keeps it."""
    from tttdebug.emulator.formats import FORMATS

    written = keys_and_values(cache, pair.layer)
    name = str(module_at(subject.port, pair.port, pair.boundary).dtype).rpartition(".")[2].lower()
    if written is None or not written[0].numel() or name not in FORMATS:
        return
    values_1KTE = written[0 if pair.part == "keys" else 1]
    reordered = _as_port(values_1KTE.float(), pair)
    rounded = _as_reference(FORMATS[name].quantise(reordered), pair).to(values_1KTE.dtype)
    set_part(cache, pair.layer, pair.part, rounded)


def _as_port(values_1KTE: torch.Tensor, pair: CachePair) -> torch.Tensor:
    """Block formats share an exponent among neighbours, so the channels must lie as in the port."""
    if not pair.interleaved:
        return values_1KTE
    head_dim = values_1KTE.shape[-1]
    return interleave_heads(values_1KTE.movedim(-1, 0), head_dim, pair.rotary_dim or head_dim).movedim(0, -1)


def _as_reference(values_1KTE: torch.Tensor, pair: CachePair) -> torch.Tensor:
    if not pair.interleaved:
        return values_1KTE
    head_dim = values_1KTE.shape[-1]
    return split_heads_in_halves(values_1KTE.movedim(-1, 0), head_dim, pair.rotary_dim or head_dim).movedim(0, -1)
