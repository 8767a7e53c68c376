# SPDX-License-Identifier: Apache-2.0
"""How the values and the error of a saved pair are spread: over each other, over sizes, and over channels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from address import Address, choose
from charts.parts import channel_chart
from charts.values import scatter_chart, step_chart, value_chart
from saved_tensors import Tensors, strongest_within
from tensor_reductions import Reductions
from tttdebug.tracking.record import Record
from tttdebug.tracking.saved_pair import SavedPair
from wording import size
from zoom import parts_of_zoom

_RANGES = {"all": "all values", "most": "99.9 % of them"}
_LISTED = 8
_OUTLIER = 10.0
"""A channel is called an outlier that reaches so many times what half of the channels reach."""


def show_values(record: Record, tensors: Tensors) -> None:
    """Scatter and histograms."""
    drawn = tensors.drawn
    st.subheader("Values", anchor=False)
    address = Address.current()
    shown = drawn.most if address.values == "most" else drawn.everything
    choose(
        "Range",
        list(_RANGES),
        "most" if address.values == "most" else "all",
        lambda chosen: {"values": chosen},
        st.radio,
        format_func=_RANGES.__getitem__,
        horizontal=True,
    )
    against, spread, apart = st.columns(3, gap="medium")
    with against:
        st.markdown("**Port against reference**")
        st.altair_chart(scatter_chart(shown, record.slope), key=f"scatter {shown.limit}")
    with spread:
        st.markdown("**Values of both sides**")
        st.altair_chart(value_chart(shown), key=f"values {shown.limit}")
    with apart:
        st.markdown("**Error in bfloat16 steps**")
        st.altair_chart(step_chart(drawn.steps), key="steps")
    outside = f" {shown.outside:,} elements lie outside of this range." if shown.outside else ""
    st.caption(f"Dashed: port = reference. Red: the slope, {record.slope:.4f}.{outside}")


def show_channels(tensors: Tensors) -> None:
    """Channels of great magnitude and of great error."""
    pair, drawn = tensors.pair, tensors.drawn
    if pair.channels < 2:
        return
    st.subheader("Channels", anchor=False)
    st.altair_chart(channel_chart(drawn.channel_reference, drawn.channel_error), key="channels")
    typical = float(np.median(drawn.channel_reference))
    outliers = int((drawn.channel_reference > _OUTLIER * typical).sum())
    st.caption(
        f"{outliers:,} of {pair.channels:,} channels of the reference reach more than {_OUTLIER:g} times the "
        f"{size(typical)} that half of them reach. Click a row to see the tile of a channel's greatest difference."
    )
    great, wrong = st.columns(2, gap="medium")
    with great:
        st.markdown("**Greatest in the reference**")
        _pick(pair, drawn, np.argsort(-drawn.channel_reference, kind="stable")[:_LISTED], "channels of reference")
    with wrong:
        st.markdown("**Greatest error**")
        _pick(pair, drawn, np.argsort(-drawn.of_channels.error, kind="stable")[:_LISTED], "channels of error")


def _pick(pair: SavedPair, drawn: Reductions, channels: np.ndarray, key: str) -> None:
    """A table of channels; a click leads to the tile of one's greatest difference."""
    total = drawn.of_channels.error.sum()
    frame = pd.DataFrame(
        {
            "channel": channels,
            "max |reference|": drawn.channel_reference[channels],
            "max |difference|": drawn.channel_error[channels],
            "rel L2": drawn.of_channels.rel_l2()[channels],
            "share of error²": 100 * drawn.of_channels.error[channels] / total if total else 0.0,
        }
    )
    number = st.column_config.NumberColumn(format="%.3g")

    def follow() -> None:
        cells = st.session_state[key].selection.cells
        if cells:
            channel = int(channels[cells[0][0]])
            first = int(drawn.channel_band[channel]) * drawn.difference.rows_a_cell
            rows = slice(first, min(first + drawn.difference.rows_a_cell, pair.rows))
            Address.set(**parts_of_zoom(*strongest_within(pair, rows, slice(channel, channel + 1)), "tile"))

    st.dataframe(
        frame,
        column_config=dict.fromkeys(frame.columns[1:4], number)
        | {frame.columns[4]: st.column_config.NumberColumn(format="%.1f %%", help="of the sum of squared differences")},
        hide_index=True,
        height="content",
        placeholder="nan",
        on_select=follow,
        selection_mode="single-cell",
        key=key,
    )
