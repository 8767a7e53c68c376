# SPDX-License-Identifier: Apache-2.0
"""In which formats a run's port keeps the weights of the module at a boundary, as the run's manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tttdebug.tracking.gates import kind_of

_LAYER = "L"
_GROUPS_OF_BRANCHES = (("attn", ("wqkv", "wo")), ("mlp", ("ff1_ff3", "ff2")), ("expert", ("ff1_ff3", "ff2")))
_GROUPS = {
    "embed": ("embedding",),
    "logits": ("lm_head",),
    "router": ("router",),
}
_NONE = ("k_cache", "v_cache", "layer_out")


def weight_formats(boundary: str, hardware: Mapping[str, Any]) -> frozenset[str]:
    """The formats of the weights of the module at `boundary`, none where the manifest's `hardware` says none of it.

    A layer as a whole has none of its own, and a cache holds no weights.
    """
    decided = _of_layer(boundary, hardware)
    return frozenset(str(decided[group]) for group in _groups(kind_of(boundary)) if group in decided)


def _of_layer(boundary: str, hardware: Mapping[str, Any]) -> Mapping[str, Any]:
    """The decisions for the layer that a boundary such as `L07.mlp` is in."""
    number = boundary.partition(".")[0].removeprefix(_LAYER)
    if boundary.startswith(_LAYER) and number.isdigit():
        return dict(hardware.get("layers", ())).get(int(number), hardware)
    return hardware


def _groups(kind: str) -> tuple[str, ...]:
    if kind in _NONE:
        return ()
    if kind.endswith("norm"):
        return ("norm",)
    if kind in _GROUPS:
        return _GROUPS[kind]
    return next((groups for part, groups in _GROUPS_OF_BRANCHES if part in kind), ())
