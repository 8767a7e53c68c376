# SPDX-License-Identifier: Apache-2.0
"""What both sides predict, token by token: where it differs, and whether that is more than a tie."""

import math

import altair as alt
import pandas as pd
import streamlit as st

from address import Address, choose
from charts.tokens import margin_chart, text_chart
from choices import choose_user, named_token
from continuations import show_continuations
from data import current_run
from drawing import draw, spec_of
from looks import colours
from prediction_panel import show_prediction
from predictions import (
    BEYOND,
    NONFINITE,
    SAME,
    UNJUDGED,
    WITHIN,
    laid_out,
    most_telling,
    pages_of,
    predictions_of,
    users_of,
    worst,
)
from tttdebug.reporting.wording import counted
from wording import verdict_mark

BUTTONS = 6  # a button for each part of the text, up to so many
FLIPS = {
    BEYOND: "beyond it",
    WITHIN: "within it, which are ties",
    UNJUDGED: "not judged, for want of a noise",
}
TABLE = {
    "position": st.column_config.NumberColumn("position", format="localized"),
    "phase": st.column_config.TextColumn("phase"),
    "step": st.column_config.NumberColumn("step"),
    "text": st.column_config.TextColumn("token"),
    "kl": st.column_config.NumberColumn("KL", format="%.3g", help="of the prediction after the token, in nats"),
    "margin": st.column_config.NumberColumn("margin", format="%.3g", help="the reference's, in logits"),
    "in_noise": st.column_config.NumberColumn("margin / σ", format="%.3g", help="in units of the noise in it"),
    "flip": st.column_config.TextColumn("first choice"),
    "reference": st.column_config.TextColumn("reference chooses"),
    "port": st.column_config.TextColumn("port chooses"),
}


def headline(tokens: pd.DataFrame) -> str:
    """Whether the predictions agree, as Markdown."""
    flips = tokens["flip"].value_counts()
    nonfinite = int(flips.get(NONFINITE, 0))
    parted = len(tokens) - int(flips.get(SAME, 0)) - nonfinite
    if nonfinite:
        return f"{verdict_mark('nonfinite')} The KL is not finite after {nonfinite:,} of {len(tokens):,} tokens"
    if not parted:
        return f"{verdict_mark('ok')} Both sides choose the same next token everywhere"
    mark = verdict_mark("diverged" if BEYOND in flips else "floor" if flips.get(WITHIN) == parted else "skipped")
    return f"{mark} The next token differs after {parted:,} of {len(tokens):,} tokens"


def judgement(tokens: pd.DataFrame) -> str:
    """How many flips the noise explains, as Markdown."""
    flips = tokens["flip"].value_counts()
    said = [f"{flips[kind]:,} {meaning}" for kind, meaning in FLIPS.items() if kind in flips]
    return (
        f"Flips, by the reference's margin against the noise of the number formats: {'; '.join(said)}." if said else ""
    )


def page_with(tokens: pd.DataFrame, token: int) -> pd.DataFrame:
    """The part of the text that is drawn, the one with `token`; another part opens at its greatest KL."""
    pages = pages_of(tokens)
    here = max(number for number, page in enumerate(pages) if page["position"].iloc[0] <= token)
    if len(pages) > 1:
        few = len(pages) <= BUTTONS
        look: dict[str, object] = {"horizontal": True} if few else {"width": 240}
        choose(
            "Positions",
            range(len(pages)),
            here,
            lambda number: {"token": worst(pages[number])},
            st.radio if few else st.selectbox,
            format_func=lambda number: page_name(pages[number]),
            **look,
        )
    return pages[here]


def page_name(page: pd.DataFrame) -> str:
    flips = int((page["flip"] != SAME).sum())
    positions = f"{page['position'].iloc[0]:,}–{page['position'].iloc[-1]:,}"
    return f"{positions}, {counted(flips, 'flip')}" if flips else positions


def choose_token(page: pd.DataFrame, token: int) -> None:
    texts = dict(zip(page["position"].tolist(), page["text"], strict=True))
    choose(
        "Token",
        list(texts),
        token,
        lambda chosen: {"token": chosen},
        format_func=lambda position: f"{position:,}  {texts[position]}",
        width=220,
    )


def clickable(chart: alt.LayerChart, key: str) -> None:
    """A chart in which a click chooses a token."""
    draw(spec_of(chart), key, lambda picked: Address.set(token=int(picked["position"])))


def show_tokens(tokens: pd.DataFrame, token: int, page: pd.DataFrame) -> None:
    chosen = tokens[tokens["position"] == token].iloc[0]
    with st.container(key="token-page"):
        text, detail, margins = (st.container(key=key) for key in ("token-text", "prediction", "token-margins"))
    with text:
        nonfinite = " Violet: not finite." if (page["flip"] == NONFINITE).any() else ""
        clickable(text_chart(laid_out(page), token, colours()), key="text")
        st.caption(
            "Coloured by the KL of the prediction that follows the token. Outlined: the first choices differ; dashed: "
            f"by no more than a tie.{nonfinite} Click a token."
        )
    with margins:
        st.subheader("Margin and KL", anchor=False)
        drawn = most_telling(tokens)
        clickable(margin_chart(drawn, token, chosen["noise"], colours()), key="margins")
        few = "" if len(drawn) == len(tokens) else f"Drawn: the {len(drawn):,} tokens of greatest KL. "
        band = "" if math.isnan(chosen["noise"]) else " Grey: in the chosen token's call, a flip there is a tie."
        st.caption(f"{few}Margin: the reference's first logit less its second.{band} Click a point.")
    with detail:
        show_prediction(chosen)
    with st.expander("All tokens as a table"):
        show_table(tokens)


def show_table(tokens: pd.DataFrame) -> None:
    """Every token; a click on a row chooses it."""

    def choose_clicked() -> None:
        if rows := st.session_state["all tokens"].selection.rows:
            Address.set(token=int(tokens["position"].iloc[rows[0]]))

    st.dataframe(
        tokens[list(TABLE)],
        column_config=TABLE,
        hide_index=True,
        on_select=choose_clicked,
        selection_mode="single-row",
        key="all tokens",
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
    positions = predictions["position"].tolist()
    with controls:
        token = named_token(positions, worst(predictions), address)
        page = page_with(predictions, token)
        choose_token(page, token)
    show_tokens(predictions, token, page)
    show_continuations(run, user)
else:
    title.header("Tokens", anchor=False)
    st.info(
        "This run compared no next tokens: its model predicts none (an encoder), or the run ended before its logits.",
        icon=":material/info:",
    )
    show_continuations(run, user=0)
