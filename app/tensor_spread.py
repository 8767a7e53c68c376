# SPDX-License-Identifier: Apache-2.0
"""How the values and the error of a saved pair are spread: over each other, over sizes, and over channels."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from address import Address, choose
from charts.parts import channel_chart
from charts.values import scatter_chart, step_chart, value_chart
from drawing import draw, spec_of
from saved_tensors import Tensors
from tttdebug.reporting.wording import size
from tttdebug.tracking.record import Record

_RANGES = {"all": "all values", "most": "99.9 % of them"}
_WIDE = 4.0
"""Where all values reach so many times further than 99.9 % of them, those are shown first."""
_OUTLIER = 10.0
"""A channel is called an outlier that reaches so many times what half of the channels reach."""


def show_values(record: Record, tensors: Tensors) -> None:
    """Scatter and histograms."""
    drawn = tensors.drawn
    st.subheader("Values", anchor=False)
    address = Address.current()
    has_outliers = drawn.everything.limit > _WIDE * drawn.most.limit
    values = address.values if address.values in _RANGES else "most" if has_outliers else "all"
    shown = drawn.most if values == "most" else drawn.everything
    choose(
        "Range",
        list(_RANGES),
        values,
        lambda chosen: {"values": chosen},
        st.radio,
        format_func=_RANGES.__getitem__,
        horizontal=True,
    )
    against, spread, apart = st.columns(3, gap="medium")
    with against:
        st.markdown("**Port against reference**")
        draw(spec_of(scatter_chart(shown, record.slope)), key=f"scatter {shown.limit}")
    with spread:
        st.markdown("**Values of both sides**")
        draw(spec_of(value_chart(shown)), key=f"values {shown.limit}")
    with apart:
        st.markdown("**Error in bfloat16 steps**")
        draw(spec_of(step_chart(drawn.steps)), key="steps")
    outside = f" {shown.outside:,} outside of this range." if shown.outside else ""
    st.caption(f"Dashed: port = reference. Red: the slope, {record.slope:.4f}.{outside}")


def show_channels(tensors: Tensors) -> None:
    """Channels of great magnitude and of great error."""
    pair, drawn = tensors.pair, tensors.drawn
    if pair.channels < 2:
        return
    st.subheader("Channels", anchor=False)
    draw(spec_of(channel_chart(drawn.channel_reference, drawn.channel_error)), key="channels")
    reference_C = drawn.channel_reference
    typical = float(np.median(reference_C[np.isfinite(reference_C)])) if np.isfinite(reference_C).any() else math.nan
    outliers = int((reference_C > _OUTLIER * typical).sum())
    st.caption(
        f"{f'{outliers:,} of {pair.channels:,} channels' if outliers else 'No channel'} of the reference "
        f"reach{'' if outliers > 1 else 'es'} more than {_OUTLIER:g} times the {size(typical)} that half of them reach."
    )
