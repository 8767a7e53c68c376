# SPDX-License-Identifier: Apache-2.0
"""The key/value cache: the error of keys and values over layers, heads and positions, and the rotary order of keys."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from address import MODULE, Address, choose, link
from cache_errors import ORDERS, PARTS, Caches, caches_of, users_and_modes
from charts.cache import MOST_COLUMNS, heat_chart, order_chart
from charts.scales import domain_of
from data import current_run
from drawing import draw, spec_of
from places import place_of
from tttdebug.reporting.wording import size
from tttdebug.tracking.opened_run import OpenedRun
from wording import plain, verdict_mark

address = Address.current()
run = current_run(address)


def main(run: OpenedRun) -> None:
    st.header("KV cache", anchor=False)
    there = users_and_modes(run)
    if not there:
        st.info(
            "This run compares no cache. The caches of ports made by `tttdebug run` are compared; a port of your own "
            "has them compared where its pairs name them. Encoders have none.",
            icon=":material/info:",
        )
        return
    user, mode = _choose(there)
    caches = caches_of(run, user, mode)
    if not caches.layers:
        st.info(
            "An earlier version of tttdebug made this run: it kept no error per head and position. Make it again with:",
            icon=":material/info:",
        )
        st.code(run.manifest.command_again or "tttdebug run …", language="bash", wrap_lines=True)
        return
    layer = place_of(address.boundary or "")
    layer = layer if layer in caches.layers else caches.worst_layer
    st.markdown(verdict_line(caches))
    domain = domain_of([pd.Series(caches.layers_LP[part].ravel()).dropna() for part in PARTS.values()])
    _layers(caches, layer, domain)
    turned = bool(caches.key_layers) and bool(run.manifest.model.get("rotary", True))
    if turned:
        _orders(caches)
    _heads(caches, layer, domain, both_orders=turned)


def _choose(there: list[tuple[int, str]]) -> tuple[int, str]:
    users = list(dict.fromkeys(user for user, _ in there))
    user = next((user for user in users if str(user) == address.user), users[0])
    modes = [mode for each, mode in there if each == user]
    mode = next((mode for mode in modes if mode == address.mode), modes[0])
    with st.container(horizontal=True, gap="medium"):
        if len(users) > 1:
            choose("User", users, user, lambda chosen: {"user": chosen}, width=110)
        if len(modes) > 1:
            choose("Error", modes, mode, lambda chosen: {"mode": chosen}, width=170)
    return user, mode


def verdict_line(caches: Caches) -> str:
    """How many caches fail, and the first."""
    failing = [
        (layer, piece)
        for layer in caches.layers
        for by_layer in caches.pieces.values()
        for piece in by_layer.get(layer, ())
        if piece.failed
    ]
    count = sum(len(pieces) for by_layer in caches.pieces.values() for pieces in by_layer.values())
    if not failing:
        return f"{verdict_mark('ok')} None of {count:,} comparisons of caches fails."
    _, first = failing[0]
    return (
        f"{verdict_mark(first.verdict)} {len(failing):,} of {count:,} comparisons of caches fail, in the order of "
        f"layers first {plain(first.key.boundary)} with rel L2 {size(first.rel_l2)}."
    )


def _layers(caches: Caches, chosen: str, domain: tuple[float, float]) -> None:
    for column, (kind, part) in zip(st.columns(2, gap="medium"), PARTS.items(), strict=True):
        with column:
            st.subheader(f"{part.capitalize()}, by layer", anchor=False)
            chart = heat_chart(
                caches.layers_LP[part],
                caches.layers,
                domain,
                row_title="layer",
                decode_from=caches.decode_from,
                clickable=True,
                chosen=chosen,
            )
            draw(spec_of(chart), f"layers of {part}", partial(_follow, kind))
    st.caption(
        "The worst head of a layer at each position; click a layer to see its heads. Dashed: where decoding begins."
        + _pooled(caches)
    )


def _follow(kind: str, picked: dict[str, Any]) -> None:
    Address.set(boundary=f"{picked['row']}.{kind}")


def _orders(caches: Caches) -> None:
    """The error of keys in both rotary orders."""
    firsts = {layer: caches.pieces["keys"][layer][0] for layer in caches.key_layers}
    read_as = next(iter(firsts.values())).read_as
    other = next(order for order in ORDERS if order != read_as)
    as_read = [piece.rel_l2 for piece in firsts.values()]
    otherwise = [piece.other_order_rel_l2 for piece in firsts.values()]
    swapped = [layer for layer, piece in firsts.items() if piece.only_order_differs]
    st.subheader("Rotary order of the keys", anchor=False)
    if swapped:
        st.markdown(
            f"{verdict_mark('diverged')} The keys of {len(swapped)} of {len(firsts)} layers are those of the reference "
            f"when they are read as {ORDERS[other]}: only the order differs, first in {plain(swapped[0])}."
        )
    else:
        st.markdown(
            f"The port's keys were read as {ORDERS[read_as]}; read as {ORDERS[other]}, no layer's error goes away."
        )
    names = (f"{ORDERS[read_as]}, as compared", ORDERS[other])
    domain = domain_of([pd.Series(as_read), pd.Series(otherwise)])
    draw(spec_of(order_chart(list(firsts), as_read, otherwise, names, domain)), key="orders")


def _heads(caches: Caches, layer: str, domain: tuple[float, float], *, both_orders: bool) -> None:
    """Head by position, of one layer."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader(f"Heads of {plain(layer)}", anchor=False, width="content")
        choose("Layer", caches.layers, layer, lambda chosen: {"boundary": f"{chosen}.k_cache"}, width=140)
        st.space("stretch")
        written = {kind: part for kind, part in PARTS.items() if layer in caches.pieces[part]}
        for kind, part in written.items():
            there = address.at(boundary=f"{layer}.{kind}")
            link(MODULE, there, f"{plain(layer)} {part}", icon=":material/query_stats:")
    shown = [(part.capitalize(), caches.heads_KP(part, layer)) for part in written.values()]
    if both_orders and layer in caches.key_layers:
        other = next(order for order in ORDERS if order != caches.pieces["keys"][layer][0].read_as)
        shown.append((f"Keys, {ORDERS[other]}", caches.heads_KP("keys", layer, other_order=True)))
    for column, (title, errors_KP) in zip(st.columns(len(shown), gap="medium"), shown, strict=True):
        with column:
            st.markdown(f"**{title}**")
            heads = [str(head) for head in range(len(errors_KP))]
            decode_from = caches.decode_from
            chart = heat_chart(errors_KP, heads, domain, row_title="head", decode_from=decode_from, legend=False)
            draw(spec_of(chart), f"heads {title}")
    st.caption("Colours as above.")


def _pooled(caches: Caches) -> str:
    together = -(-caches.positions // MOST_COLUMNS)
    return "" if together == 1 else f" A cell shows the greatest error of {together} positions."


main(run)
