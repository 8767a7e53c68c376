# SPDX-License-Identifier: Apache-2.0
"""One run at a glance: is it good, where and when does it start, do the tokens agree, what was left out."""

from pathlib import Path

import streamlit as st

from address import LAYER, MODULE, TOKENS, Address, choose, go, link
from agreement import show_agreement
from charts.depth import depth_domain, depth_panels
from charts.heat import heat_domain, heat_map
from choices import choose_call, choose_measure, records_of
from data import Stamp, alone, current_run, explanation_of, is_live, label_of, open_run, records_of_user, stamp_of
from drawing import Spec, pick_from
from findings import show_explanation, show_how_to_explain
from grids import badness_of, by_call, by_module, kinds_of, of_each
from ledger import show_ledger, show_manifest
from looks import colours
from places import kind_of, place_of
from record_tables import pick_boundary
from tttdebug.tracking.opened_run import Call, OpenedRun
from tttdebug.tracking.record import Record
from tttdebug.tracking.run import ACCUMULATED, ISOLATED
from wording import explanation, headline, incompleteness, moment, plain, verdict_tally

EVERY_MODULE = "all modules"
ISOLATED_LINE = "Dashed blue: the isolated error, of the module alone with the reference's input. "


def header(run: OpenedRun) -> None:
    manifest = run.manifest
    st.header(headline(run), anchor=False)
    st.markdown(explanation(run))
    facts = (label_of(manifest.model), manifest.precision, label_of(manifest.device), moment(manifest.created))
    st.caption(" · ".join(plain(fact) for fact in facts if fact))
    if not manifest.finished:
        st.info(incompleteness(run), icon=":material/hourglass_empty:")
        if is_live(run.path, manifest.status) and manifest.expected:
            st.progress(min(1.0, len(run.records) / manifest.expected))
    if run.records:
        st.markdown(verdict_tally(run.records.column("verdict").tolist()))
    first = run.first_divergence()
    if first is not None:
        at = address.at(boundary=first.boundary, phase=first.phase, step=first.step, user=first.user, mode=first.mode)
        link(MODULE, at, f"Look at {plain(first.boundary)}", icon=":material/arrow_forward:")


def open_picked(picked: dict[str, object] | None, records: list[Record]) -> None:
    """A click in a chart leads to the layer, or to the module where its place has no other; and to the call."""
    if picked is not None:
        place = place_of(str(picked["boundary"]))
        only = sum(place_of(record.boundary) == place for record in records) == 1
        go(MODULE if only else LAYER, Address.current().at(**picked))


@st.cache_data(max_entries=16, show_spinner=False)
def depth_specs(path: Path, stamp: Stamp, call: Call, by: str, ink: str) -> dict[str, Spec]:
    """The chart of the modules of one call, layer by kind, and a panel a kind of module."""
    run = open_run(path)
    records, of_run = run.by_call[call], records_of_user(run, call.user, call.mode)
    boundaries = records.column("boundary").tolist()
    badness, name = badness_of(records, by)
    of_all, name_of_all = badness_of(of_run, by)
    domain = heat_domain(of_all if name == name_of_all else badness, name)
    places = list(dict.fromkeys(map(place_of, boundaries)))
    cells = by_module(records, badness)
    charts = {"": heat_map(cells, places, kinds_of(boundaries), name, domain, ink)}
    own = records_of_user(run, call.user, ISOLATED) if explained(run, call) else None
    scale = depth_domain(of_run, own, by)
    return charts | depth_panels(list(records), by, scale, None if own is None else alone(run, call))


@st.cache_data(max_entries=16, show_spinner=False)
def calls_spec(path: Path, stamp: Stamp, user: int, mode: str, kind: str | None, by: str, ink: str) -> tuple[Spec, int]:
    """Layer by call, of a kind of module or of all; and how many calls share a row."""
    records = records_of_user(open_run(path), user, mode)
    badness, name = badness_of(records, by)
    domain = heat_domain(badness, name)
    if kind is not None:
        chosen = of_each(records.column("boundary"), kind_of) == kind
        records, badness = records.where(chosen), badness[chosen]
    cells, together = by_call(records, badness)
    places = list(dict.fromkeys(of_each(records.column("boundary"), place_of).tolist()))
    return heat_map(cells, places, list(dict.fromkeys(cells["row"])), name, domain, ink), together


def explained(run: OpenedRun, call: Call) -> bool:
    return call.mode == ACCUMULATED and call._replace(mode=ISOLATED) in run.by_call


def show_calls(run: OpenedRun, call: Call, by: str) -> None:
    """Whether prefill or decode is worse, and whether the error grows from step to step."""
    kinds = [
        EVERY_MODULE,
        *kinds_of(list(dict.fromkeys(records_of_user(run, call.user, call.mode).column("boundary").tolist()))),
    ]
    st.subheader("Every call", anchor=False)
    kind = choose(
        "Module",
        kinds,
        address.kind if address.kind in kinds else EVERY_MODULE,
        lambda chosen: {"kind": None if chosen == EVERY_MODULE else chosen},
        width=200,
    )
    wanted = None if kind == EVERY_MODULE else kind
    spec, together = calls_spec(run.path, stamp_of(run.path), call.user, call.mode, wanted, by, colours().ink)
    open_picked(pick_from(spec, f"calls {by} {kind}"), records_of(run, call))
    shared = f" A row is {together} calls and shows the worst of them." if together > 1 else ""
    worst = "The worst module of each layer. " if kind == EVERY_MODULE else ""
    st.caption(f"{worst}Click a cell to open that layer in that call.{shared}")


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
if len(records) < len(run.records):
    st.markdown(verdict_tally(record.verdict for record in records))
with st.container(gap="xxsmall"):
    for kind, spec in depth_specs(run.path, stamp_of(run.path), call, by, colours().ink).items():
        open_picked(pick_from(spec, f"depth {by} {kind}".strip()), records)
st.caption(
    "Click a cell or a point to open its layer. "
    + (ISOLATED_LINE if explained(run, call) else "")
    + (
        "Grey: the floor, the error that the number formats must cause. Red: the most that they explain."
        if by == "rel_l2"
        else "The floor is known for rel L2 only."
    )
)
if len({(each.phase, each.step) for each in run.by_call}) > 1:
    show_calls(run, call, by)

st.subheader("Boundaries", anchor=False)
st.caption("In the order of execution. Click a row to open it; click a column's name to sort.")
if picked := pick_boundary(records, key="boundaries"):
    go(MODULE, Address.current().at(boundary=picked))

show_agreement(run)
if run.tokens or run.manifest.continuations:
    link(TOKENS, address, "Look at the tokens", icon=":material/arrow_forward:")
show_ledger(run)
show_manifest(run)
