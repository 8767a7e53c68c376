# SPDX-License-Identifier: Apache-2.0
"""Where a boundary belongs, by its name alone: `L07.mlp` is the mlp of layer L07, `embed` lies outside the layers."""

from __future__ import annotations

from collections.abc import Sequence

from tttdebug.tracking.record import Record

OUTSIDE = "outside layers"
"""The kind of boundaries that belong to no layer: embed, final_norm, logits."""


def place_of(boundary: str) -> str:
    """The layer that a boundary belongs to; a boundary outside the layers is its own place."""
    return boundary.rpartition(".")[0] or boundary


def kind_of(boundary: str) -> str:
    """Which module of its layer a boundary is."""
    layer, _, kind = boundary.rpartition(".")
    return kind if layer else OUTSIDE


def places_of(records: Sequence[Record]) -> dict[str, str]:
    """Every layer, and every boundary outside of the layers, with its first boundary; in the order of execution."""
    firsts: dict[str, str] = {}
    for record in records:
        firsts.setdefault(place_of(record.boundary), record.boundary)
    return firsts
