# SPDX-License-Identifier: Apache-2.0
"""Reference, port and difference of one boundary as maps, from the whole tensor down to a 16 × 16 face."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from address import Address
from charts.maps import full_colour, tensor_chart
from drawing import draw, spec_of
from looks import colours
from saved_tensors import Tensors, cell_at, strongest_within
from tensor_map import TILE, TensorMap, as_it_is
from tttdebug.reporting.wording import size
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record
from tttdebug.tracking.saved_pair import SavedPair
from worst_places import show_places
from zoom import WHOLE, Zoom, parts_of_zoom, zoom_of

SIDES = ("reference", "port", "difference")
_NEIGHBOURS = {
    "above": ("upward", (-1, 0)),
    "below": ("downward", (1, 0)),
    "to the left": ("back", (0, -1)),
    "to the right": ("forward", (0, 1)),
}


@st.fragment
def show_tensors(run: OpenedRun, record: Record, tensors: Tensors) -> None:
    """The maps, and where in them to look; a click within draws nothing else anew."""
    st.subheader("Tensors", anchor=False)
    _show_maps(record, tensors)
    show_places(run, record, tensors)
    st.caption("Click a row to see its tile.")


def _show_maps(record: Record, tensors: Tensors) -> None:
    pair, drawn = tensors.pair, tensors.drawn
    address = Address.current()
    zoom = zoom_of(address, pair.rows, pair.channels)
    if zoom is None:
        if address.element is not None:
            st.info("The address points outside of this tensor.", icon=":material/info:")
        _show(pair, record, (drawn.reference, drawn.port, drawn.difference), None)
        return
    _bar(zoom, row_name(record))
    reference_RC, port_RC = pair.part(zoom.row_part, zoom.channel_part)
    with np.errstate(invalid="ignore"):
        parts = (reference_RC, port_RC, np.abs(port_RC - reference_RC))
    first = zoom.row_part.start, zoom.channel_part.start
    reference, port, difference = (as_it_is(part.astype(np.float64), *first) for part in parts)
    _show(pair, record, (reference, port, difference), zoom)
    if zoom.level == "face":
        _numbers(zoom, *parts)


def row_name(record: Record) -> str:
    return "token" if len(record.shape) == 2 else "row"


def _show(pair: SavedPair, record: Record, maps: tuple[TensorMap, TensorMap, TensorMap], zoom: Zoom | None) -> None:
    full, full_difference = full_colour(*maps[:2]), full_colour(maps[2])
    titles = ("Reference", "Port", "|port − reference|")
    level = "whole" if zoom is None else f"{zoom.level} {zoom.row} {zoom.channel}"
    for column, side, title, shown in zip(st.columns(3), SIDES, titles, maps, strict=True):
        signed, key = side != "difference", f"map {side} {level}"
        with column:
            st.markdown(f"**{title}**")
            chart = tensor_chart(
                shown,
                full if signed else full_difference,
                signed=signed,
                colours=colours(),
                row_name=row_name(record),
                ring=None if zoom is None else (zoom.row, zoom.channel),
            )
            draw(spec_of(chart), key, partial(_follow, pair, shown, zoom))
    where = _of_cell(maps[0]) if zoom is None else _at_ring(pair, zoom, row_name(record))
    st.caption(
        f"{where} Colours are full at the 99th percentile of the cells: {size(full)} for the values, "
        f"{size(full_difference)} for the difference. Violet: not finite."
    )


def _follow(pair: SavedPair, shown: TensorMap, zoom: Zoom | None, picked: dict[str, Any]) -> None:
    """Zoom to the cell that was clicked: to the tile of its greatest difference, then to a face, then a value."""
    row, channel = int(picked["row"]), int(picked["channel"])
    if zoom is None:
        row, channel = strongest_within(pair, *cell_at(shown, row, channel))
    Address.set(**parts_of_zoom(row, channel, "tile" if zoom is None else "face"))


def _bar(zoom: Zoom, rows: str) -> None:
    """Where the view is, the way back out, and the neighbours."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button("whole tensor", icon=":material/zoom_out:", type="tertiary", on_click=Address.set, kwargs=WHOLE)
        if zoom.level == "face":
            up = parts_of_zoom(zoom.row, zoom.channel, "tile")
            st.button("its tile", icon=":material/zoom_out:", type="tertiary", on_click=Address.set, kwargs=up)
        part = f"{rows}s {_span(zoom.row_part)}, channels {_span(zoom.channel_part)}"
        st.markdown(f"**{zoom.level.capitalize()}** of {part}", width="content")
        st.space("stretch")
        for name, (arrow, step) in _NEIGHBOURS.items():
            neighbour = zoom.next_to(*step)
            st.button(
                "",
                icon=f":material/arrow_{arrow}:",
                help=f"the {zoom.level} {name}",
                key=f"go {name}",
                disabled=neighbour is None,
                on_click=Address.set,
                kwargs=parts_of_zoom(*(neighbour or (0, 0)), zoom.level),
            )


def _span(part: slice) -> str:
    return f"{part.start} to {part.stop - 1}"


def _of_cell(pooled: TensorMap) -> str:
    r, c = pooled.rows_a_cell, pooled.channels_a_cell
    if r == c == 1:
        return "A cell is one value; a click shows its tile."
    tiles = f" ({r // TILE} × {c // TILE} tiles)" if not r % TILE and not c % TILE else ""
    return (
        f"A cell is {r:,} × {c:,} values{tiles} and shows the strongest of them, so that no outlier is averaged away; "
        "a click opens the tile of its greatest difference."
    )


def _at_ring(pair: SavedPair, zoom: Zoom, rows: str) -> str:
    reference, port = (
        float(side[0, 0]) for side in pair.part(slice(zoom.row, zoom.row + 1), slice(zoom.channel, zoom.channel + 1))
    )
    return (
        f"In the ring: {rows} {zoom.row}, channel {zoom.channel}, where the reference is {reference:.6g} and the port "
        f"{port:.6g}."
    )


def _numbers(zoom: Zoom, reference_RC: np.ndarray, port_RC: np.ndarray, difference_RC: np.ndarray) -> None:
    """The numbers of a face."""
    rows = [str(row) for row in range(zoom.row_part.start, zoom.row_part.stop)]
    channels = [str(channel) for channel in range(zoom.channel_part.start, zoom.channel_part.stop)]
    sides = {"port − reference": port_RC - reference_RC, "port": port_RC, "reference": reference_RC}
    for tab, (name, values_RC) in zip(st.tabs(list(sides)), sides.items(), strict=True):
        with tab:
            frame = pd.DataFrame(values_RC, index=rows, columns=channels)
            st.dataframe(frame.style.format("{:.4g}"), placeholder="nan", height="content", key=f"numbers {name}")
