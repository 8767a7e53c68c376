# SPDX-License-Identifier: Apache-2.0
"""What the chosen number formats cost: the error that each kind of module must have, and the formats that cause it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.run import ISOLATED

if TYPE_CHECKING:
    from tttdebug.tracking.record import Record
    from tttdebug.tracking.run import Run

#        kind: the weights its products read and the kernels that multiply them, by their names in a hardware config
_SETTINGS = {
    "embed": (("embedding", "", "the table"),),
    "self_attn": (("wqkv", "li_qkv", "QKV"), ("wo", "li_o", "output")),
    "mlp": (("ff1_ff3", "li_ff1_ff3", "FF1/FF3"), ("ff2", "li_ff2", "FF2")),
    "k_cache": (("wqkv", "li_qkv", "QKV"), ("kv_cache", "", "the cache")),
    "v_cache": (("wqkv", "li_qkv", "QKV"), ("kv_cache", "", "the cache")),
    "logits": (("lm_head", "li_lm_head", "the head"),),
}


@dataclass(frozen=True)
class FormatCost:
    """One kind of module in prefill: its median rel_l2 beside its median floor, and the worst one.

    `formats` names the number formats and fidelities of its products; empty where the port does not say.
    """

    kind: str
    rel_l2: float
    floor: float
    worst: str
    worst_rel_l2: float
    formats: str


def format_costs(run: Run) -> list[FormatCost]:
    """A cost for each kind of module, the greatest first: of modules alone where the run was explained, else of the
    run's own boundaries, whose errors hold what came in.
    """
    alone = [record for record in run.experiments if record.mode == ISOLATED]
    by_kind: dict[str, list[Record]] = {}
    for record in alone or run.records:
        if record.phase == "prefill" and not record.failed and math.isfinite(record.floor_rel_l2):
            by_kind.setdefault(kind_of(record.boundary), []).append(record)
    costs = [_cost(kind, records, run.manifest.hardware) for kind, records in by_kind.items()]
    return sorted(costs, key=lambda cost: cost.rel_l2, reverse=True)


def _cost(kind: str, records: Iterable[Record], hardware: Mapping[str, Any]) -> FormatCost:
    records = list(records)
    worst = max(records, key=lambda record: record.rel_l2)
    return FormatCost(
        kind,
        median(record.rel_l2 for record in records),
        median(record.floor_rel_l2 for record in records),
        worst.boundary,
        worst.rel_l2,
        formats_of(kind, hardware),
    )


def formats_of(kind: str, hardware: Mapping[str, Any]) -> str:
    """A kind of module's formats and fidelities, as in `bfloat4_b LoFi in FF1/FF3, bfloat8_b HiFi2 in FF2`.

    What is alike is said once; empty where the port does not say.
    """
    places: dict[str, list[str]] = {}
    for weight, kernel, place in _SETTINGS.get(kind, ()):
        if weight in hardware:
            fidelity = hardware.get(kernel, {}).get("math_fidelity", "")
            places.setdefault(f"{hardware[weight]} {fidelity}".strip(), []).append(place)
    text = ", ".join(f"{what} in {' and '.join(where)}" for what, where in places.items())
    return f"{text}; some layers otherwise" if text and hardware.get("layers") else text
