# SPDX-License-Identifier: Apache-2.0
"""The dashboard: which run, boundary and call is looked at stands in the address; every page reads the run's files."""

from pathlib import Path

import streamlit as st

from address import CACHE, COMPARE, LAYER, MODULE, OVERVIEW, PRECISION, RUNS, TOKENS, Address, choose, go, link
from data import find_runs, runs_folder
from svg_buttons import offer_svg
from tttdebug.errors import RunError

HERE = Path(__file__).parent
PAGES = {
    RUNS: ("Runs", ":material/list:"),
    OVERVIEW: ("Overview", ":material/monitoring:"),
    LAYER: ("Layer", ":material/account_tree:"),
    MODULE: ("Module", ":material/query_stats:"),
    CACHE: ("KV cache", ":material/database:"),
    TOKENS: ("Tokens", ":material/text_fields:"),
    PRECISION: ("Precision", ":material/tune:"),
    COMPARE: ("Compare", ":material/compare_arrows:"),
}


def main() -> None:
    st.set_page_config(
        page_title="tttdebug", page_icon=str(HERE / "icon.svg"), layout="wide", initial_sidebar_state=250
    )
    pages = {path: st.Page(path, title=title, default=path == RUNS) for path, (title, _) in PAGES.items()}
    st.html(HERE / "style.css")
    page = st.navigation(list(pages.values()), position="hidden")
    address = Address.current()
    if page.title == "Runs":
        follow_link(address)
    sidebar(address)
    offer_svg()
    try:
        page.run()
    except RunError as error:
        explain(error)


def follow_link(address: Address) -> None:
    """Open what a link to the bare address asks for, once, so that "back" does not lead here and forth again."""
    if address.run is None:
        st.session_state.pop("followed", None)
    elif st.session_state.get("followed") != address:
        st.session_state["followed"] = address
        go(OVERVIEW if address.boundary is None else MODULE, address)


def sidebar(address: Address) -> None:
    with st.sidebar:
        st.markdown("**tttdebug**")
        for path, (title, icon) in PAGES.items():
            link(
                path,
                Address() if path == RUNS else address,
                title,
                icon=icon,
                disabled=path != RUNS and not address.run,
            )
        names = list(find_runs(runs_folder()))
        choose(
            "Run",
            names,
            address.run if address.run in names else None,
            lambda name: {
                "run": name,
                "boundary": None,
                "phase": None,
                "step": None,
                "user": None,
                "mode": None,
                "token": None,
            },
            index=0 if address.run in names else None,
            placeholder="Pick a run",
        )


def explain(error: RunError) -> None:
    """What is wrong with a run and what to do, in place of the page."""
    st.header("This run cannot be shown")
    st.code(str(error), language=None, wrap_lines=True)
    st.markdown("The other runs are not affected.")
    link(RUNS, Address(), "Pick another run", icon=":material/arrow_back:")


main()
