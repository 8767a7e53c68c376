# SPDX-License-Identifier: Apache-2.0
"""One boundary: all its metrics, and what its error looks like."""

import re

import streamlit as st

from address import CACHE, LAYER, Address, choose, link
from boundary import show_error
from cache_errors import is_cache
from choices import choose_call, records_of
from data import current_run, default_boundary
from places import place_of
from record_tables import fact_table, metric_table
from saved_tensors import Tensors, tensors_of
from tensor_parts import show_parts
from tensor_spread import show_channels, show_values
from tensor_view import show_tensors
from tttdebug.errors import RunError
from tttdebug.reporting.wording import size, times
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import ACCUMULATED
from wording import code, pcc, plain, sentence, verdict_mark
from worst_places import show_places
from zoom import WHOLE


def tensors_or_why_not(run: OpenedRun, record: Record) -> Tensors | None:
    """The saved pair; where there is none, what has to be done for one is said."""
    try:
        if (found := tensors_of(run, record)) is not None:
            return found
        why, what = "This boundary's tensors were not saved. To keep all of them, run again with:", with_tensors(run)
    except RunError as error:
        why, what = "The tensors cannot be read:", str(error)
    st.subheader("Tensors", anchor=False)
    if record.mode != ACCUMULATED:
        st.caption("Tensors are kept of the accumulated error only.")
        return None
    st.caption(why)
    st.code(what, language=None, wrap_lines=True)
    return None


def with_tensors(run: OpenedRun) -> str:
    """The command that made the run, with all tensors kept, into a new folder."""
    command = re.sub(r"\s--(save-tensors|tensor-budget)[ =]\S+", "", run.manifest.command_again) or "tttdebug run …"
    used_up = any("tensor budget" in note for note in run.manifest.notes)
    return f"{command} --save-tensors all{' --tensor-budget 8192' if used_up else ''}"


address = Address.current()
run = current_run(address)
boundary = default_boundary(run, address)

title = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    boundary_choice = st.container(width=260)
    call = choose_call(run, address)
records = {record.boundary: record for record in records_of(run, call)}
record = records.get(boundary) or next(iter(records.values()))
with boundary_choice:
    choose("Boundary", list(records), record.boundary, lambda chosen: {"boundary": chosen, **WHOLE})
if boundary not in records:
    st.info("The address names a boundary that this call does not have.", icon=":material/info:")

with title:
    st.header(f"{verdict_mark(record.verdict)} {plain(record.boundary)}", anchor=False)
    st.markdown(sentence(record))
    if record.note:
        judged = record.mode == ACCUMULATED and record.verdict not in ("ok", "shape_mismatch")
        st.markdown(f"{'Misses its gate: ' if judged else ''}{code(record.note)}")
compared = record.verdict != "shape_mismatch"
place = place_of(record.boundary)

with st.container(horizontal=True):
    if compared:
        st.metric("PCC", pcc(record.pcc), width=150)
        st.metric("rel L2", size(record.rel_l2), width=110)
        st.metric("rel L2 / floor", times(record.above_floor), width=130)
        st.metric("slope", f"{record.slope:.4f}", width=120)
        st.metric("greatest difference", size(record.max_abs_diff), width=170)
    if place != record.boundary:
        st.space("stretch")
        if is_cache(record.boundary):
            link(CACHE, address, "KV cache", icon=":material/database:")
        link(LAYER, address.at(boundary=record.boundary), f"all of {plain(place)}", icon=":material/arrow_upward:")

if compared:
    tensors = tensors_or_why_not(run, record)
    if tensors is None:
        show_places(run, record, None)
    else:
        show_tensors(run, record, tensors)
    show_error(run, record)
    show_parts(run, record, tensors)
    if tensors is not None:
        show_values(record, tensors)
        show_channels(tensors)
    st.subheader("All metrics", anchor=False)
    metric_table(record)
st.subheader("What was compared", anchor=False)
fact_table(record)
