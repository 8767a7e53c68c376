# SPDX-License-Identifier: Apache-2.0
"""Tables of records, and of one record's metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from drawing import pick_row
from tttdebug.reporting.palette import style_of
from tttdebug.reporting.wording import size, times
from tttdebug.tracking.record import Record
from wording import pcc, steps, verdict_label

_COLUMNS = {
    "pcc": st.column_config.NumberColumn("PCC", help="Pearson's correlation of all elements"),
    "rel_l2": st.column_config.NumberColumn("rel L2", help="‖port − reference‖ / ‖reference‖"),
    "floor": st.column_config.NumberColumn("floor", help="the rel L2 that the number formats must cause"),
    "above_floor": st.column_config.NumberColumn("× floor", help="rel L2 in units of its floor"),
    "slope": st.column_config.NumberColumn("slope", help="2 where the port is twice the reference"),
    "max_abs_diff": st.column_config.NumberColumn("max |diff|", help="the greatest |port − reference|"),
    "worst_token": st.column_config.NumberColumn("worst token", help="the position of the lowest PCC"),
    "worst_token_pcc": st.column_config.NumberColumn("its PCC"),
}
_ORIGINS = {
    "in": st.column_config.NumberColumn("in", help="rel L2 of what came in"),
    "inherited": st.column_config.NumberColumn(
        "inherited", help="rel L2 that the reference's module gives out for it: the error that is passed on"
    ),
    "amplification": st.column_config.NumberColumn("× in", help="inherited error out over error in"),
    "isolated": st.column_config.NumberColumn(
        "isolated", help="rel L2 of the module alone, fed with the reference's input"
    ),
    "accumulated": st.column_config.NumberColumn("accumulated", help="rel L2 in the port as it ran"),
    "floor": st.column_config.NumberColumn("floor", help="the rel L2 that the number formats must cause"),
}
_FORMATS = {
    "pcc": pcc,
    "rel_l2": size,
    "floor": size,
    "above_floor": "{:.1f}",
    "slope": "{:.4f}",
    "max_abs_diff": size,
    "worst_token_pcc": "{:.4f}",
}


def pick_boundary(records: Sequence[Record], key: str) -> str | None:
    """A table of records; the boundary of the row that is clicked, if any."""
    frame = pd.DataFrame([_row(record) for record in records])
    if not any(record.note for record in records):
        frame = frame.drop(columns="note")
    shown = frame.style.format(_FORMATS).map(_verdict_css, subset=["verdict"])
    row = pick_row(shown, key, column_config=_COLUMNS, placeholder="nan")
    return None if row is None else records[row].boundary


def pick_by_origin(
    records: Sequence[Record], own: Mapping[str, Record], passed_on: Mapping[str, Record], key: str
) -> str | None:
    """A table of where each boundary's error comes from; the boundary of the row that is clicked, if any."""
    frame = pd.DataFrame(
        [_origin(record, own.get(record.boundary), passed_on.get(record.boundary)) for record in records]
    )
    shown = frame.style.format(dict.fromkeys(_ORIGINS, size)).map(_verdict_css, subset=["verdict"])
    row = pick_row(shown, key, column_config=_ORIGINS, height="content", placeholder="–")
    return None if row is None else records[row].boundary


def _origin(record: Record, own: Record | None, passed_on: Record | None) -> dict[str, object]:
    return {
        "boundary": record.boundary,
        "verdict": verdict_label(record.verdict),
        "in": math.nan if passed_on is None else passed_on.input_rel_l2,
        "inherited": math.nan if passed_on is None else passed_on.rel_l2,
        "amplification": math.nan if passed_on is None else passed_on.amplification,
        "isolated": math.nan if own is None else own.rel_l2,
        "accumulated": record.rel_l2,
        "floor": record.floor_rel_l2,
    }


def metric_table(record: Record) -> None:
    """Every metric of a record with its plain name."""
    rows = [
        ("PCC", pcc(record.pcc), "Pearson's correlation of all elements"),
        ("cosine", pcc(record.cosine), "the angle between both tensors, 1 is none"),
        ("slope", f"{record.slope:.5f}", "2 where the port is twice the reference"),
        ("norm ratio", f"{record.norm_ratio:.5f}", "‖port‖ / ‖reference‖"),
        ("rel L2", size(record.rel_l2), "‖port − reference‖ / ‖reference‖"),
        ("floor", size(record.floor_rel_l2), "the rel L2 that the number formats must cause"),
        ("rel L2 / floor", times(record.above_floor), "rel L2 in units of its floor"),
        ("explained rel L2", size(record.explained_rel_l2), "a boundary fails only above it"),
        ("greatest difference", size(record.max_abs_diff), "max |port − reference|"),
        ("mean difference", size(record.mean_abs), "mean |port − reference|"),
        ("RMSE", size(record.rmse), "root of the mean squared difference"),
        ("bf16 steps, median", steps(record.ulp_p50), "half of the elements are no further apart"),
        ("bf16 steps, 99 %", steps(record.ulp_p99), "99 % of the elements are no further apart"),
        ("bf16 steps, greatest", steps(record.ulp_max), "no element is further apart"),
        (
            "worst token",
            str(record.worst_token) if record.worst_token >= 0 else "none",
            "the token position of the lowest PCC",
        ),
        ("worst token's PCC", pcc(record.worst_token_pcc), "over the elements of that token"),
        ("last token's PCC", pcc(record.last_token_pcc), "the token that the next one is predicted from"),
        ("non-finite, reference", f"{record.nonfinite_reference:,}", "elements that are inf or NaN"),
        ("non-finite, port", f"{record.nonfinite_port:,}", "elements that are inf or NaN"),
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["metric", "value", "what it says"]),
        hide_index=True,
        height="content",
        key="metrics",
    )


def fact_table(record: Record) -> None:
    """What was compared with what, and how."""
    rows = [
        ("port's module", record.module),
        ("reference's module", record.reference_path),
        ("shape", " × ".join(map(str, record.shape))),
        ("port's dtype", record.dtype),
        ("layout adapters", ", ".join(record.adapters) or "none"),
        ("engine", record.engine),
        ("port's time", "not measured" if math.isnan(record.seconds) else f"{record.seconds * 1000:,.1f} ms"),
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["fact", "value"]), hide_index=True, height="content", width=760, key="facts"
    )


def _row(record: Record) -> dict[str, object]:
    return {
        "boundary": record.boundary,
        "verdict": verdict_label(record.verdict),
        "pcc": record.pcc,
        "rel_l2": record.rel_l2,
        "floor": record.floor_rel_l2,
        "above_floor": record.above_floor,
        "slope": record.slope,
        "max_abs_diff": record.max_abs_diff,
        "worst_token": record.worst_token,
        "worst_token_pcc": record.worst_token_pcc,
        "note": record.note,
    }


def _verdict_css(label: str) -> str:
    return f"color: {style_of(label.split(' ', 1)[1]).colour}"
