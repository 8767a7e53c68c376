# SPDX-License-Identifier: Apache-2.0
"""One layer: its modules in order, each with its verdict and its error."""

import streamlit as st

from address import MODULE, OVERVIEW, Address, choose, go
from charts.diagram import layer_diagram
from charts.scales import PICK
from choices import choose_call, records_of
from data import current_run, default_boundary
from looks import colours
from places import place_of, places_of
from record_tables import pick_boundary
from wording import layer_sentence, plain, verdict_tally

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
event = st.altair_chart(
    layer_diagram(modules, colours().ink), on_select="rerun", selection_mode=PICK, key=f"diagram {place}"
)
if picked := event.selection[PICK]:
    go(MODULE, Address.current().at(boundary=picked[0]["boundary"]))
st.caption("Click a module to open it, here or in the table.")
if chosen := pick_boundary(modules, key="modules"):
    go(MODULE, Address.current().at(boundary=chosen))
