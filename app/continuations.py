# SPDX-License-Identifier: Apache-2.0
"""The texts that both sides would write after each prompt, and where they part."""

from __future__ import annotations

import re

import streamlit as st

from tttdebug.tracking.opened_run import OpenedRun


def show_continuations(run: OpenedRun, user: int) -> None:
    """What each side would write by itself; the prompt of `user` is open."""
    if not run.manifest.continuations:
        return
    st.subheader("What each side writes", anchor=False)
    st.caption("Each side chooses its own next token, and goes on from there.")
    for number, texts in enumerate(run.manifest.continuations):
        reference, port = texts["reference"], texts["port"]
        same = shared(reference, port)
        title = "both sides write the same" if reference == port else f"the texts part {_after(same)}"
        with st.expander(f"Prompt {number + 1}: {title}", expanded=number == user):
            _text("Prompt", texts["prompt"])
            if same:
                _text("Both write", same)
            if reference != port:
                left, right = st.columns(2)
                with left:
                    _text("▲ Here the reference goes on" if same else "Reference writes", reference[len(same) :])
                with right:
                    _text("▼ Here the port goes on" if same else "Port writes", port[len(same) :])


def shared(reference: str, port: str) -> str:
    """What both texts begin with, up to the beginning of the word in which they part."""
    if reference == port:
        return reference
    longest = min(len(reference), len(port))
    parted = next((at for at in range(longest) if reference[at] != port[at]), longest)
    return re.sub(r"\S+\Z", "", reference[:parted])


def _text(label: str, text: str) -> None:
    st.caption(label)
    if text:
        st.code(text, language=None, wrap_lines=True)
    else:
        st.markdown("*nothing*")


def _after(same: str) -> str:
    return f"after {len(same):,} characters" if same else "at once"
