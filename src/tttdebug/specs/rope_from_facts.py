# SPDX-License-Identifier: Apache-2.0
"""From facts to the spec of a rotary embedding, from whichever form a configuration gives its parameters in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tttdebug.errors import SpecError
from tttdebug.specs.attention import RopeSpec
from tttdebug.specs.facts import Facts, stated

# Fields of RopeSpec by the names that rotary parameters have in configurations.
ROPE_FIELDS = {
    "rope_theta": "theta",
    "rope_type": "scaling",
    "type": "scaling",
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_max_position",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "truncate": "truncate",
    "partial_rotary_factor": "rotary_dim",
}


def rope_spec(facts: Facts, kind: str | None, head_dim: int) -> RopeSpec:
    """The rotary embedding of a layer of that kind."""
    parameters = _rope_parameters(facts, kind)
    if unknown := [key for key in parameters if key not in ROPE_FIELDS]:
        raise SpecError(
            f"config has rotary parameters that no spec can express: {', '.join(unknown)}; "
            f"known are {', '.join(ROPE_FIELDS)}"
        )
    fields = {ROPE_FIELDS[key]: value for key, value in parameters.items() if value is not None}
    share = fields.pop("rotary_dim", facts.number("partial_rotary_factor", 1.0))
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not math.isfinite(share):
        raise SpecError(f"config has partial_rotary_factor={share!r}: give a number up to 1")
    rotary_dim = facts.number("rotary_dim", int(head_dim * share))
    if fields.get("scaling", "default") == "default":
        fields = stated(theta=fields.get("theta"))
    elif fields["scaling"] in ("llama3", "yarn"):
        fields.setdefault("original_max_position", facts.get("max_sequence_length"))
    return RopeSpec(**fields, **({} if rotary_dim == head_dim else {"rotary_dim": rotary_dim}))


def _rope_parameters(facts: Facts, kind: str | None) -> Mapping[str, Any]:
    """The rotary parameters of a layer of that kind, in transformers' names, from whichever form the config has."""
    parameters = facts.get("rope_parameters")
    if isinstance(parameters, Mapping) and any(isinstance(value, Mapping) for value in parameters.values()):
        parameters = parameters.get(kind or "full_attention")
    if parameters is not None:
        if not isinstance(parameters, Mapping):
            raise SpecError(f"config has rope_parameters={parameters!r}: give a dict")
        return {**stated(rope_theta=facts.get("rope_theta")), **parameters}
    scaling = facts.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise SpecError(f"config has rope_scaling={scaling!r}: give a dict")
    local_theta = facts.get("rope_local_theta") if kind == "sliding_attention" else None
    if local_theta is not None:
        return {"rope_theta": local_theta}
    return {**stated(rope_theta=facts.get("rope_theta")), **scaling}
