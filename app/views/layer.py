# SPDX-License-Identifier: Apache-2.0
"""One layer: how the data goes through its modules, where their error comes from, and the ops inside."""

from collections.abc import Mapping

import streamlit as st

from address import MODULE, OVERVIEW, Address, choose, go
from charts.attribution import attribution
from charts.diagram import diagram_width, layer_diagram
from choices import choose_call, records_of
from data import alone, current_run, default_boundary, passed_on
from drawing import pick_from, spec_of
from findings import show_how_to_explain
from flow import flow_of
from looks import colours
from ops import show_ops
from places import place_of, places_of
from record_tables import pick_boundary, pick_by_origin
from tttdebug.tracking.run import ACCUMULATED
from wording import layer_sentence, plain, verdict_tally

ORIGINS = (
    "Filled: accumulated, in the port as it ran. Blue circle: isolated, the module alone with the reference's input. "
    "Orange square: inherited, what the reference's module makes of the error that came in. Grey: the floor."
)


def open_module(picked: Mapping[str, object] | None) -> None:
    if picked is not None:
        go(MODULE, Address.current().at(boundary=picked["boundary"]))


address = Address.current()
run = current_run(address)
boundary = default_boundary(run, address)

title = st.container(horizontal=True, vertical_alignment="center")
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    layer_choice = st.container(width=200)
    call = choose_call(run, address)
records = records_of(run, call)
firsts = places_of(records)
places = list(firsts)
place = place_of(boundary) if place_of(boundary) in firsts else places[0]
modules = [record for record in records if place_of(record.boundary) == place]
with layer_choice:
    choose("Layer", places, place, lambda chosen: {"boundary": firsts[chosen]})

with title:
    st.header(plain(place), anchor=False, width="content")
    st.space("stretch")
    at = places.index(place)
    for step, icon in ((-1, ":material/arrow_back:"), (1, ":material/arrow_forward:")):
        if 0 <= at + step < len(places):
            neighbour = places[at + step]
            st.button(
                plain(neighbour),
                icon=icon,
                on_click=Address.set,
                kwargs={"boundary": firsts[neighbour]},
                type="tertiary",
            )
    if st.button("all layers", icon=":material/arrow_upward:", type="tertiary"):
        go(OVERVIEW, address)
if place != place_of(boundary):
    st.info("The address names a layer that this call does not have.", icon=":material/info:")

st.markdown(layer_sentence(modules))
st.markdown(verdict_tally(record.verdict for record in modules))
own, came = (alone(run, call), passed_on(run, call)) if call.mode == ACCUMULATED else ({}, {})
flow = flow_of(modules, str(run.manifest.model.get("wiring", "")))
drawing = layer_diagram(flow, {record.boundary: record for record in modules}, own, came, colours().ink)
with st.container(width=diagram_width(flow)):
    open_module(pick_from(drawing, f"diagram {place}"))
if not flow.known:
    st.caption("In the order of execution: the run does not say how these modules are wired.")

st.subheader("Where the error comes from" if own else "Boundaries", anchor=False)
if own:
    open_module(pick_from(spec_of(attribution(modules, own, came)), f"origin {place}"))
    st.caption(ORIGINS)
    picked = pick_by_origin(modules, own, came, key=f"origins {place}")
else:
    picked = pick_boundary(modules, key=f"layer {place}")
    show_how_to_explain(run)
open_module(None if picked is None else {"boundary": picked})
show_ops(run, [record.boundary for record in modules], call)
