# SPDX-License-Identifier: Apache-2.0
"""A cache that differs from the reference's while the attention that fills and reads it gives the right output.

K key/value heads, T tokens, E head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

from tttdebug.analysis.finding import Experiment, Finding, Fix
from tttdebug.analysis.module_call import ModuleCall
from tttdebug.analysis.special.caches import CacheReading, read_cache
from tttdebug.tracking.record import Key

LAYOUTS = frozenset({"rope_order", "heads_permuted"})
"""Other orders that a port may keep, as long as it reads its cache as it writes it."""


def cache_finding(boundary: str, keys: Sequence[Key], call: ModuleCall) -> Finding | None:
    """How the cache of an attention has to be read to be the reference's; None where nothing fits, or it fits as it is.

    `call` is a call of the attention whose own output is right.
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
    if not explained or any(reading.cause == "unknown" for reading in readings.values()):
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
