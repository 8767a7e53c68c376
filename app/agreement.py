# SPDX-License-Identifier: Apache-2.0
"""Whether both sides predict the same tokens, in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from tttdebug.tracking.opened_run import OpenedRun

_AGREEMENT = {
    "tokens": st.column_config.NumberColumn("tokens", format="%d", help="how many positions were compared"),
    "top1": st.column_config.NumberColumn(
        "top-1", format="percent", help="share of positions where both predict the same token"
    ),
    "top5": st.column_config.NumberColumn(
        "top-5", format="percent", help="how much of the five likeliest tokens both share"
    ),
    "kl_mean": st.column_config.NumberColumn(
        "KL, mean", format="%.2g", help="Kullback-Leibler divergence, reference to port"
    ),
    "last_top1": st.column_config.CheckboxColumn("last token: top-1", help="whether both continue the prompt alike"),
    "last_top5": st.column_config.NumberColumn("last token: top-5", format="percent"),
    "kl_last": st.column_config.NumberColumn("last token: KL", format="%.2g"),
}


def show_agreement(run: OpenedRun) -> None:
    """A row a phase."""
    if not run.manifest.agreement:
        return
    st.subheader("Tokens", anchor=False)
    rows = [{"phase": phase} | _known(metrics) for phase, metrics in run.manifest.agreement.items()]
    st.dataframe(pd.DataFrame(rows), column_config=_AGREEMENT, hide_index=True, key="agreement")


def _known(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in _AGREEMENT if name in metrics}
