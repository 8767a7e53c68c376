# SPDX-License-Identifier: Apache-2.0
"""A cache that differs from the reference's while the attention that fills and reads it gives the right output.

K key/value heads, T tokens, E head dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.analysis.hypotheses import rel_l2
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.analysis.special.caches import CacheReading, read_cache
from tttdebug.emulator.formats import FORMATS
from tttdebug.modules.placement import interleave_heads, split_heads_in_halves
from tttdebug.tracking.record import Key

if TYPE_CHECKING:
    import torch

COARSE = ("bfloat8_b", "bfloat4_b")
HALF, MOST_OF_A_SOUND_CACHE = 0.6, 0.03
"""A format explains a cache when it leaves so much of its error; below that rel_l2 there is nothing to explain."""

LAYOUTS = frozenset({"rope_order", "heads_permuted"})
"""Other orders that a port may keep, as long as it reads its cache as it writes it."""


def cache_finding(boundary: str, keys: Sequence[Key], call: ModuleCall) -> Finding | None:
    """How the cache of an attention has to be read to be the reference's, or in which coarser format it is kept.

    None where nothing fits, or it fits as it is.
    """
    if call.port_fresh is None or call.reference_fresh is None:
        return None
    rotary_dim = getattr(call.spec, "rotary_dim", None) or None
    readings = {
        "keys": read_cache(
            call.reference_fresh.keys_KPE,
            call.port_fresh.keys_KPE,
            floor_rel_l2=call.floor_rel_l2,
            rotary_dim=rotary_dim,
        ),
        "values": read_cache(
            call.reference_fresh.values_KPE, call.port_fresh.values_KPE, floor_rel_l2=call.floor_rel_l2, rotary_dim=0
        ),
    }
    explained = {part: reading for part, reading in readings.items() if reading.cause not in ("", "unknown")}
    if any(reading.cause == "unknown" for reading in readings.values()):
        return _kept_coarser(boundary, keys, call) or _stale(boundary, keys, call, readings)
    if not explained:
        return None
    first = next(iter(explained.values()))
    harmless = all(reading.cause in LAYOUTS for reading in explained.values())
    says = "; ".join(f"{part} of the cache: {reading.says}" for part, reading in explained.items())
    return Finding(
        boundary,
        first.cause,
        f"{says}; the output is right, so it is an order that the port keeps" if harmless else says,
        module=call.module,
        reference_path=call.reference_path,
        experiments=tuple(_read_otherwise(part, reading, call) for part, reading in explained.items()),
        fix=Fix("nothing, unless another program reads this cache" if harmless else _advice(first)),
        records=tuple(keys),
    )


def _advice(reading: CacheReading) -> str:
    if reading.cause == "kv_block_swapped":
        return "fill the cache by the same page table by which it is read: each block has one place in both"
    return "write each key and value at the slot, position and head from which the attention reads it"


def _read_otherwise(part: str, reading: CacheReading, call: ModuleCall) -> Experiment:
    what = f"{part} of the cache read in that order"
    return Experiment(what, reading.rel_l2, reading.rel_l2_as_read, call.floor_rel_l2)


def _kept_coarser(boundary: str, keys: Sequence[Key], call: ModuleCall) -> Finding | None:
    """The number format that makes the reference's keys and values what the cache holds; None where none does."""
    assert call.port_fresh is not None
    assert call.reference_fresh is not None
    pairs = {
        "keys": (call.reference_fresh.keys_KPE, call.port_fresh.keys_KPE),
        "values": (call.reference_fresh.values_KPE, call.port_fresh.values_KPE),
    }
    before = {part: rel_l2(port, reference) for part, (reference, port) in pairs.items()}
    for dtype in COARSE:
        after = {part: _left(call, dtype, part, *sides) for part, sides in pairs.items()}
        wrong = [part for part in pairs if before[part] > MOST_OF_A_SOUND_CACHE]
        if wrong and all(after[part] <= HALF * before[part] for part in wrong):
            experiments = [Experiment(f"{part} rounded to {dtype}", before[part], after[part]) for part in wrong]
            return Finding(
                boundary,
                "cast_low",
                f"{' and '.join(wrong)} of the cache are kept in {dtype}",
                module=call.module,
                reference_path=call.reference_path,
                experiments=tuple(experiments),
                fix=Fix("keep the cache in the format that the settings declare, and cast to it once"),
                records=tuple(keys),
            )
    return None


def _stale(
    boundary: str, keys: Sequence[Key], call: ModuleCall, readings: Mapping[str, CacheReading]
) -> Finding | None:
    """A cache that holds something else than what its attention has just attended to; None where that is wrong too."""
    own = rel_l2(call.port_TC.float(), call.reference_TC.float())
    errs_too = any(key.boundary == boundary for key in keys)
    if errs_too or own > HALF * max(reading.rel_l2 for reading in readings.values()):
        return None
    wrong = {part: reading for part, reading in readings.items() if reading.cause != ""}
    fresh = call.port_fresh
    assert fresh is not None
    is_empty = not bool(fresh.keys_KPE.any()) and not bool(fresh.values_KPE.any())
    holds = "are zeros, as if never written" if is_empty else "are not those of this prompt"
    return Finding(
        boundary,
        "kv_stale",
        f"{' and '.join(wrong)} of user {call.key.user} in the cache {holds}, though its attention has the right ones",
        module=call.module,
        reference_path=call.reference_path,
        experiments=tuple(
            Experiment(f"{part} in the cache, then the attention over them", reading.rel_l2, own, call.floor_rel_l2)
            for part, reading in wrong.items()
        ),
        fix=Fix("see what is written to the cache after this attention, into which slot and which blocks"),
        where=tuple(sentence for reading in wrong.values() for sentence in reading.location.sentences()),
        records=tuple(keys),
    )


def _left(call: ModuleCall, dtype: str, part: str, reference_KTE: torch.Tensor, port_KTE: torch.Tensor) -> float:
    """The error that is left when the reference's is rounded to a format, in whichever order its channels lie."""
    rotary_dim = getattr(call.spec, "rotary_dim", 0) if part == "keys" else 0
    turned = rotary_dim > 0
    left = math.inf
    for rounded in (FORMATS[dtype].quantise, FORMATS[dtype].pack):  # as the host rounds, and as the packer cuts
        left = min(left, rel_l2(port_KTE, rounded(reference_KTE)))
        if turned:
            head_dim = reference_KTE.shape[-1]
            as_port = interleave_heads(reference_KTE.movedim(-1, 0), head_dim, rotary_dim).movedim(0, -1)
            back = split_heads_in_halves(rounded(as_port).movedim(-1, 0), head_dim, rotary_dim).movedim(0, -1)
            left = min(left, rel_l2(port_KTE, back))
    return left
