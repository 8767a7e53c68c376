# SPDX-License-Identifier: Apache-2.0
"""The error of one boundary by parts: over heads, users, and the devices of a mesh, each where there are several."""

from __future__ import annotations

from typing import Any

import streamlit as st

from charts.parts import part_chart
from drawing import draw, spec_of
from saved_tensors import Tensors
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record

HEADS_IN = ("k_cache", "v_cache", "q_proj", "k_proj", "v_proj", "q_norm", "k_norm")
"""Modules whose channels are heads side by side."""


def show_parts(run: OpenedRun, record: Record, tensors: Tensors | None) -> None:
    """One small chart for each way to part the tensor that there is."""
    charts = {
        "head": _of_heads(run, record, tensors),
        "user": _of_users(run, record),
        "device": _of_shards(run.profile(record.key) or {}),
    }
    shown = {part: errors for part, errors in charts.items() if len(errors) > 1}
    if not shown:
        return
    for column, (part, errors) in zip(st.columns(max(2, len(shown))), shown.items(), strict=False):
        with column:
            st.subheader(f"Error per {part}", anchor=False)
            chart = part_chart(list(errors), list(errors.values()), record.floor_rel_l2, part)
            draw(spec_of(chart), key=f"per {part}")


def heads_of(run: OpenedRun, record: Record) -> int:
    """How many heads lie side by side in a record's channels; 0 where none do, or the run does not say."""
    head_dim = run.manifest.model.get("head_dim")
    if record.boundary.rpartition(".")[2] not in HEADS_IN or not isinstance(head_dim, int) or head_dim < 1:
        return 0
    channels = record.shape[-1] if record.shape else 0
    return 0 if channels % head_dim else channels // head_dim


def _of_heads(run: OpenedRun, record: Record, tensors: Tensors | None) -> dict[str, float]:
    heads = heads_of(run, record)
    if not heads or tensors is None:
        return {}
    return {str(head): error for head, error in enumerate(tensors.drawn.of_channels.rel_l2(heads).tolist())}


def _of_users(run: OpenedRun, record: Record) -> dict[str, float]:
    """The same boundary and call of every user."""
    errors = {}
    for call, records in run.by_call.items():
        if (call.phase, call.step, call.mode) == (record.phase, record.step, record.mode):
            rows = records.column("boundary") == record.boundary
            if rows.any():
                errors[str(call.user)] = float(records.column("rel_l2")[rows][0])
    return errors


def _of_shards(profile: dict[str, Any]) -> dict[str, float]:
    return {str(shard["device"]): float(shard["rel_l2"]) for shard in profile.get("shards", ())}
