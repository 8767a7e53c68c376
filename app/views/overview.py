# SPDX-License-Identifier: Apache-2.0
"""One run at a glance: is it good, where does it start, do the tokens agree, what was left out."""

import streamlit as st

from address import LAYER, MODULE, TOKENS, Address, go, link
from agreement import show_agreement
from charts.depth import depth_panels
from charts.scales import PICK
from choices import choose_call, choose_measure, records_of
from data import alone, current_run, explanation_of, label_of
from findings import show_explanation, show_how_to_explain
from ledger import show_ledger, show_manifest
from places import place_of
from record_tables import pick_boundary
from tttdebug.tracking.opened_run import OpenedRun
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import ACCUMULATED
from wording import explanation, headline, incompleteness, moment, plain, verdict_tally


def header(run: OpenedRun) -> None:
    manifest = run.manifest
    st.header(headline(run), anchor=False)
    st.markdown(explanation(run))
    facts = (label_of(manifest.model), manifest.precision, label_of(manifest.device), moment(manifest.created))
    st.caption(" · ".join(plain(fact) for fact in facts if fact))
    if not manifest.finished:
        st.info(incompleteness(run), icon=":material/hourglass_empty:")
    first = run.first_divergence()
    if first is not None:
        at = address.at(boundary=first.boundary, phase=first.phase, step=first.step, user=first.user, mode=first.mode)
        link(MODULE, at, f"Look at {plain(first.boundary)}", icon=":material/arrow_forward:")


def depth(records: list[Record], alone: dict[str, Record], by: str) -> None:
    """A click in a panel leads to the layer, or to the module where its place has no other."""
    for kind, panel in depth_panels(records, by, alone).items():
        event = st.altair_chart(panel, on_select="rerun", selection_mode=PICK, key=f"depth {by} {kind}")
        if picked := event.selection[PICK]:
            boundary = picked[0]["boundary"]
            only = sum(place_of(record.boundary) == place_of(boundary) for record in records) == 1
            go(MODULE if only else LAYER, Address.current().at(boundary=boundary))


address = Address.current()
run = current_run(address)
header(run)
if not run.records:
    show_ledger(run)
    show_manifest(run)
    st.stop()
found = explanation_of(run)
if found is None:
    show_how_to_explain(run)
else:
    show_explanation(found, run, address)

st.subheader("Error over depth", anchor=False)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    call = choose_call(run, address)
    by = choose_measure(address)
records = records_of(run, call)
own = alone(run, call) if call.mode == ACCUMULATED else {}
st.markdown(verdict_tally(records))
with st.container(gap="xxsmall"):
    depth(records, own, by)
st.caption(
    "Click a point to open its layer. "
    + ("Dashed blue: the isolated error, of the module alone with the reference's input. " if own else "")
    + (
        "Grey: the floor, the error that the number formats must cause. Red: the most that they explain."
        if by == "rel_l2"
        else "The floor is known for rel L2 only."
    )
)

st.subheader("Boundaries", anchor=False)
st.caption("In the order of execution. Click a row to open it; click a column's name to sort.")
if picked := pick_boundary(records, key="boundaries"):
    go(MODULE, Address.current().at(boundary=picked))

show_agreement(run)
if run.tokens or run.manifest.continuations:
    link(TOKENS, address, "Look at the tokens", icon=":material/arrow_forward:")
show_ledger(run)
show_manifest(run)
