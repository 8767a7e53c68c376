# SPDX-License-Identifier: Apache-2.0
"""One prediction: what both sides hold likeliest after a token, and whether a flip is within the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from predictions import NONFINITE, SAME, WITHIN, visible
from tttdebug.analysis.ties import TIE
from tttdebug.reporting.wording import size
from wording import call_name, code, verdict_mark

_ROW_HEIGHT = 28
_COLUMNS = {
    "token": st.column_config.TextColumn("token", width="small"),
    "probability": st.column_config.ProgressColumn("probability", format="percent", min_value=0.0, max_value=1.0),
    "id": st.column_config.NumberColumn("id", format="%d", width="small"),
}


def show_prediction(chosen: pd.Series) -> None:
    """The panel of one row of `predictions_of`."""
    st.subheader(f"After {code(chosen['text'])}, position {chosen['position']:,}", anchor=False)
    st.caption(call_name(chosen["phase"], chosen["step"]))
    st.markdown(verdict_of_flip(chosen))
    with st.container(horizontal=True):
        st.metric("KL (nats)", size(chosen["kl"]), width=110)
        st.metric("margin (logits)", size(chosen["margin"]), width=130)
    for side in ("reference", "port"):
        st.caption(side.capitalize())
        st.dataframe(
            _table(chosen["line"][f"{side}_top"]),
            column_config=_COLUMNS,
            hide_index=True,
            row_height=_ROW_HEIGHT,
            key=f"top {side}",
        )


def verdict_of_flip(chosen: pd.Series) -> str:
    """Whether the first choices differ, and whether noise explains it, as Markdown."""
    if chosen["flip"] == NONFINITE:
        return f"{verdict_mark('nonfinite')} The KL is not finite: the logits of one side hold inf or NaN."
    if chosen["flip"] == SAME:
        return f"{verdict_mark('ok')} Both sides choose {code(chosen['reference'])}."
    parted = f"Flip: the reference chooses {code(chosen['reference'])}, the port {code(chosen['port'])}."
    margin = f"The margin is {size(chosen['margin'])}"
    if math.isnan(chosen["in_noise"]):
        return f"{verdict_mark('skipped')} {parted} {margin}; the noise of the logits is not known."
    mark, judged = ("floor", "a tie within") if chosen["flip"] == WITHIN else ("diverged", "beyond")
    return (
        f"{verdict_mark(mark)} {parted} {margin}, {size(chosen['in_noise'])} σ of the noise in a difference of two "
        f"logits: {judged} the noise (up to {TIE:g} σ)."
    )


def _table(top: Sequence[Sequence[Any]]) -> pd.DataFrame:
    rows = [(visible(text), probability, token) for token, text, probability in top]
    return pd.DataFrame(rows, columns=["token", "probability", "id"])
