# SPDX-License-Identifier: Apache-2.0
"""The saved tensors of a record as pages want them: opened once, reduced once, read by the part that is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from data import Stamp, file_stamp, open_run, stamp_of
from tensor_map import TensorMap
from tensor_reductions import Reductions, reductions_of
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Key, Record
from tttdebug.tracking.run import TENSORS
from tttdebug.tracking.saved_pair import SavedPair


@dataclass(frozen=True)
class Tensors:
    """A saved pair, and all that is drawn of it."""

    pair: SavedPair
    drawn: Reductions


def tensors_of(run: OpenedRun, record: Record) -> Tensors | None:
    """None where they were not saved. Raises RunError where their file is damaged."""
    key = record.key
    file = run.path / TENSORS / f"{key.file_name}.safetensors"
    return _tensors(run.path, (*stamp_of(run.path), file_stamp(file)), key)


def strongest_within(pair: SavedPair, rows: slice, channels: slice) -> tuple[int, int]:
    """Row and channel of the greatest difference in a part of the pair; what is not finite is greater than all."""
    best, at = -1.0, (rows.start, channels.start)
    for block in pair.blocks(rows):
        with np.errstate(invalid="ignore"):
            difference_RC = np.abs(block.port_RC[:, channels] - block.reference_RC[:, channels])
        difference_RC[~np.isfinite(difference_RC)] = np.inf
        row, channel = np.unravel_index(difference_RC.argmax(), difference_RC.shape)
        if difference_RC[row, channel] > best:
            best, at = float(difference_RC[row, channel]), (block.start + int(row), channels.start + int(channel))
    return at


def cell_at(shown: TensorMap, row: int, channel: int) -> tuple[slice, slice]:
    """The rows and channels of a map's cell, by its first ones."""
    return (
        slice(row, min(row + shown.rows_a_cell, shown.row_end)),
        slice(channel, min(channel + shown.channels_a_cell, shown.channel_end)),
    )


@st.cache_resource(max_entries=32, show_spinner="Reading the tensors …")
def _tensors(path: Path, stamp: Stamp, key: Key) -> Tensors | None:
    pair = open_run(path).saved_pair(key)
    return None if pair is None else Tensors(pair, reductions_of(pair))
