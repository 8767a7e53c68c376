# SPDX-License-Identifier: Apache-2.0
"""What both sides predict, token by token: where it differs, and whether that is more than a tie."""

import pandas as pd
import streamlit as st

from address import Address, choose
from charts.scales import PICK
from charts.tokens import margin_chart, text_chart
from choices import choose_token, choose_user
from continuations import show_continuations
from data import current_run
from looks import colours
from prediction_panel import show_prediction
from predictions import BEYOND, SAME, UNJUDGED, WITHIN, laid_out, pages_of, predictions_of, users_of, worst
from tttdebug.reporting.wording import counted
from wording import verdict_mark

BUTTONS = 8
"""Pages up to which there is a button for each."""


def headline(tokens: pd.DataFrame) -> str:
    """Whether the predictions agree, as Markdown."""
    flips = tokens["flip"].value_counts()
    parted = len(tokens) - flips.get(SAME, 0)
    if not parted:
        return f"{verdict_mark('ok')} Both sides choose the same next token, always"
    mark = verdict_mark("diverged" if flips.get(BEYOND) else "floor" if flips.get(WITHIN) == parted else "skipped")
    return f"{mark} The next token differs after {parted:,} of {len(tokens):,} tokens"


def judgement(tokens: pd.DataFrame) -> str:
    """How many flips the noise explains."""
    flips = tokens["flip"].value_counts()
    said = [f"{flips[kind]:,} {kind}" for kind in (BEYOND, WITHIN, UNJUDGED) if kind in flips]
    return f"By the reference's margin: {', '.join(said)}." if said else ""


def page_with(tokens: pd.DataFrame, token: int) -> pd.DataFrame:
    """The part of the text that is drawn, chosen by its token; another part opens at its greatest KL."""
    pages = pages_of(tokens)
    firsts = [int(page["position"].iloc[0]) for page in pages]
    here = max(number for number, first in enumerate(firsts) if first <= token)
    if len(pages) > 1:
        choose(
            "Positions",
            range(len(pages)),
            here,
            lambda number: {"token": worst(pages[number])},
            st.radio if len(pages) <= BUTTONS else st.selectbox,
            format_func=lambda number: page_name(pages[number]),
            **({"horizontal": True} if len(pages) <= BUTTONS else {"width": 240}),
        )
    return pages[here]


def page_name(page: pd.DataFrame) -> str:
    flips = int((page["flip"] != SAME).sum())
    return f"{page['position'].iloc[0]:,}–{page['position'].iloc[-1]:,}" + (
        f", {counted(flips, 'flip')}" if flips else ""
    )


def pick(key: str) -> None:
    """Choose the token that was clicked."""
    if picked := st.session_state[key].selection[PICK]:
        Address.set(token=int(picked[0]["position"]))


def clickable(chart: object, key: str) -> None:
    st.altair_chart(chart, on_select=lambda: pick(key), selection_mode=PICK, key=key)


def show_tokens(tokens: pd.DataFrame) -> None:
    with controls:
        token = choose_token(dict(zip(tokens["position"], tokens["text"], strict=True)), worst(tokens), address)
        page = page_with(tokens, token)
    chosen = tokens[tokens["position"] == token].iloc[0]
    text, detail = st.columns([5, 3], gap="medium")
    with text:
        clickable(text_chart(laid_out(page), token, colours()), key="text")
        st.caption(
            "Coloured by the KL of the prediction that follows the token. Outlined: the first choices differ; dashed: "
            "by no more than a tie. Click a token."
        )
    with detail:
        show_prediction(chosen)
    st.subheader("Margin and KL", anchor=False)
    clickable(margin_chart(tokens, token, chosen["noise"], colours()), key="margins")
    st.caption(
        "Margin: the reference's first logit less its second. Grey: margins within the noise of the number formats."
    )


address = Address.current()
run = current_run(address)
users = users_of(run)
title = st.container()
controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
if users:
    with controls:
        user = choose_user(users, address)
    predictions = predictions_of(run, user)
    with title:
        st.header(headline(predictions), anchor=False)
        st.markdown(judgement(predictions))
    show_tokens(predictions)
    show_continuations(run, user)
else:
    title.header("Tokens", anchor=False)
    st.info(
        "This run compared no next tokens: its model predicts none (an encoder), or the run ended before its logits.",
        icon=":material/info:",
    )
    show_continuations(run, user=0)
