# SPDX-License-Identifier: Apache-2.0
"""What a run holds of its key/value caches: error by layer, head and position, all calls of a user put together."""

# L layers, K heads, P positions

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from data import Stamp, open_run, stamp_of
from places import place_of
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import FAILING_VERDICTS, Key
from tttdebug.tracking.run import ACCUMULATED

PARTS = {"k_cache": "keys", "v_cache": "values"}
ORDERS = {"interleaved": "interleaved (Meta's)", "halves": "split in halves (Hugging Face's)"}
_ORDER_EXPLAINS = 0.25


@dataclass(frozen=True)
class Piece:
    """What one call wrote into one layer's cache."""

    key: Key
    rel_l2: float
    floor_rel_l2: float
    verdict: str
    first_position: int
    errors_KP: np.ndarray
    read_as: str = ""
    other_order_KP: np.ndarray | None = None
    other_order_rel_l2: float = np.nan

    @property
    def only_order_differs(self) -> bool:
        """Whether these keys are near the reference's when they are read in the other rotary order."""
        return self.other_order_rel_l2 < _ORDER_EXPLAINS * self.rel_l2

    @property
    def failed(self) -> bool:
        return self.verdict in FAILING_VERDICTS

    @property
    def end(self) -> int:
        return self.first_position + self.errors_KP.shape[1]


@dataclass(frozen=True)
class Caches:
    """The pieces of one user in one mode, of "keys" and "values", by layer in the order of execution."""

    pieces: dict[str, dict[str, list[Piece]]]

    @cached_property
    def layers(self) -> list[str]:
        return list(dict.fromkeys(layer for by_layer in self.pieces.values() for layer in by_layer))

    @cached_property
    def positions(self) -> int:
        """One past the last position of all."""
        return max(piece.end for by_layer in self.pieces.values() for pieces in by_layer.values() for piece in pieces)

    def heads_KP(self, part: str, layer: str, other_order: bool = False) -> np.ndarray:
        """The error at every position, nan where nothing was written."""
        pieces = self.pieces[part][layer]
        whole = np.full((pieces[0].errors_KP.shape[0], self.positions), np.nan)
        for piece in pieces:
            errors = piece.other_order_KP if other_order else piece.errors_KP
            if errors is not None and errors.shape[0] == whole.shape[0]:
                whole[:, piece.first_position : piece.end] = errors
        return whole

    @cached_property
    def layers_LP(self) -> dict[str, np.ndarray]:
        """The error of the worst head at every position of every layer, of "keys" and "values"."""
        nothing_P = np.full(self.positions, np.nan)
        return {
            part: np.array(
                [
                    np.fmax.reduce(self.heads_KP(part, layer), axis=0) if layer in by_layer else nothing_P
                    for layer in self.layers
                ]
            )
            for part, by_layer in self.pieces.items()
        }

    @cached_property
    def decode_from(self) -> int | None:
        """The position at which decoding begins."""
        starts = [
            piece.first_position
            for by_layer in self.pieces.values()
            for pieces in by_layer.values()
            for piece in pieces
            if piece.key.phase == "decode"
        ]
        return min(starts, default=None)

    @cached_property
    def worst_layer(self) -> str:
        """The layer of the first cache that fails, else that of the greatest error."""
        written = [(layer, pieces[0]) for by_layer in self.pieces.values() for layer, pieces in by_layer.items()]
        failing = [layer for layer, piece in written if piece.failed]
        return min(failing, key=self.layers.index) if failing else max(written, key=lambda each: each[1].rel_l2)[0]

    @property
    def key_layers(self) -> list[str]:
        """The layers whose keys were read in both orders."""
        return [layer for layer, pieces in self.pieces["keys"].items() if pieces[0].other_order_KP is not None]


def users_and_modes(run: OpenedRun) -> list[tuple[int, str]]:
    """Whose caches were compared, and how."""
    found: dict[tuple[int, str], None] = {}
    for call, records in run.by_call.items():
        if (call.user, call.mode) not in found and any(is_cache(name) for name in records.column("boundary")):
            found[call.user, call.mode] = None
    return sorted(found, key=lambda each: (each[0], each[1] != ACCUMULATED))


def caches_of(run: OpenedRun, user: int, mode: str) -> Caches:
    """The caches of one user; of a run that did not keep the errors of heads there are none."""
    return _caches(run.path, stamp_of(run.path), user, mode)


@st.cache_resource(max_entries=4, show_spinner="Reading the caches …")
def _caches(path: Path, stamp: Stamp, user: int, mode: str) -> Caches:
    run = open_run(path)
    described: dict[Key, tuple[float, float, str]] = {}
    for call, records in run.by_call.items():
        if (call.user, call.mode) != (user, mode):
            continue
        names = records.column("boundary")
        columns = (names, *(records.column(name) for name in ("rel_l2", "floor_rel_l2", "verdict")))
        for name, rel_l2, floor, verdict in zip(*columns, strict=True):
            if is_cache(name):
                key = Key(str(name), call.phase, call.step, call.user, call.mode)
                described[key] = (float(rel_l2), float(floor), str(verdict))
    pieces: dict[str, dict[str, list[Piece]]] = {part: {} for part in PARTS.values()}
    for key, heads in run.profile_parts(described, "heads"):
        if heads["rel_l2"] and heads["rel_l2"][0]:
            by_layer = pieces[PARTS[_kind(key.boundary)]]
            by_layer.setdefault(place_of(key.boundary), []).append(_piece(key, described[key], heads))
    return Caches(pieces)


def _piece(key: Key, record: tuple[float, float, str], heads: dict[str, Any]) -> Piece:
    other = heads["other_order"]
    return Piece(
        key,
        *record,
        heads["first_position"],
        np.array(heads["rel_l2"], dtype=np.float32),
        heads["read_as"],
        np.array(other, dtype=np.float32) if other else None,
        heads["other_order_rel_l2"],
    )


def _kind(boundary: Any) -> str:
    return str(boundary).rpartition(".")[2]


def is_cache(boundary: Any) -> bool:
    """Whether a boundary is the keys or values of a cache."""
    return _kind(boundary) in PARTS
