# SPDX-License-Identifier: Apache-2.0
"""What each side predicts after every token of one user: a table, and the rows of text that it is drawn in."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from data import Stamp, open_run, stamp_of
from tttdebug.analysis.ties import TIE, in_noise, noise_of_logits
from tttdebug.reporting.wording import size
from tttdebug.tracking.opened_run import OpenedRun

SAME, WITHIN, BEYOND, UNJUDGED = "same", "within the noise", "beyond the noise", "noise unknown"
NONFINITE = "not finite"
"""Whether the first choices of both sides are the same token and, where not, how the reference's margin lies."""
COLUMNS = 72
"""Characters in a row of text."""
PAGE = 400
"""Tokens drawn at a time."""
POINTS = 4000
"""Tokens drawn as points at a time."""
_LONGEST = 24  # characters shown of one token
_SHOWN = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"})


def users_of(run: OpenedRun) -> list[int]:
    """The users whose tokens were compared."""
    return sorted({line["user"] for line in run.tokens})


def predictions_of(run: OpenedRun, user: int) -> pd.DataFrame:
    """A row a token of this user, in the order of their positions; `predictions_of(…).loc[i, "line"]` is its line.

    Columns: position, phase, step, text, kl, margin, flip, noise and in_noise (in logits, and the margin in units of
    the noise of a difference), reference and port (the first choices), reference_top and port_top (texts), line.
    """
    return _predictions(run.path, stamp_of(run.path), user)


def visible(text: str) -> str:
    """A token's text in one line: signs for what is white, U+FFFD for what cannot be printed, cut when long."""
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in text.translate(_SHOWN)) or "∅"
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def worst(tokens: pd.DataFrame) -> int:
    """The position of the greatest KL, or of one that is not finite."""
    errors = tokens["kl"].to_numpy()
    return int(tokens["position"].iloc[int(np.where(np.isfinite(errors), errors, np.inf).argmax())])


def pages_of(tokens: pd.DataFrame) -> list[pd.DataFrame]:
    """The tokens cut in pages that are quick to draw."""
    return [tokens.iloc[start : start + PAGE] for start in range(0, len(tokens), PAGE)]


def most_telling(tokens: pd.DataFrame) -> pd.DataFrame:
    """All tokens, or those of the greatest KL where they are too many to draw."""
    return tokens if len(tokens) <= POINTS else tokens.loc[tokens["kl"].fillna(np.inf).nlargest(POINTS).index]


def laid_out(tokens: pd.DataFrame) -> pd.DataFrame:
    """`tokens` with the place of each in rows of text: row, and the characters start and end in it.

    A row ends where it is full, after a line break, and before another phase begins.
    """
    places = list(_places(tokens["text"].tolist(), tokens["phase"].tolist()))
    return tokens.drop(columns="line").assign(
        **pd.DataFrame(places, columns=["row", "start", "end"], index=tokens.index)
    )


def _places(texts: Sequence[str], phases: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    row = start = 0
    for number, text in enumerate(texts):
        width = sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)
        before = texts[number - 1] if number else ""
        broken = before.endswith("⏎") and not set(text) <= set("␣⏎")
        if start and (start + width > COLUMNS or broken or phases[number] != phases[number - 1]):
            row, start = row + 1, 0
        yield row, start, start + width
        start += width


@st.cache_resource(max_entries=4, show_spinner=False)
def _predictions(path: Path, stamp: Stamp, user: int) -> pd.DataFrame:
    run = open_run(path)
    noise = _noise(run, user)
    lines = sorted((line for line in run.tokens if line["user"] == user), key=lambda line: line["position"])
    return pd.DataFrame([_row(line, noise.get((line["phase"], line["step"]), math.nan)) for line in lines])


def _noise(run: OpenedRun, user: int) -> dict[tuple[str, int], float]:
    """The noise of a logit in each call."""
    records = run.records
    logits = records.where((records.column("boundary") == "logits") & (records.column("user") == user))
    return {(record.phase, record.step): noise_of_logits(record) for record in logits}


def _row(line: dict[str, Any], noise: float) -> dict[str, object]:
    reference, port = line["reference_top"], line["port_top"]
    sigmas = in_noise(line["margin"], noise)
    return {
        "position": line["position"],
        "phase": line["phase"],
        "step": line["step"],
        "text": visible(line["text"]),
        "kl": line["kl"],
        "margin": line["margin"],
        "flip": _judged(line["kl"], reference[0][0] == port[0][0], sigmas),
        "noise": noise,
        "in_noise": sigmas,
        "reference": visible(reference[0][1]),
        "port": visible(port[0][1]),
        "reference_top": _listed(reference),
        "port_top": _listed(port),
        "kl_text": size(line["kl"]),
        "margin_text": size(line["margin"]),
        "line": line,
    }


def _judged(kl: float, same: bool, sigmas: float) -> str:
    if not math.isfinite(kl):
        return NONFINITE
    if same:
        return SAME
    if math.isnan(sigmas):
        return UNJUDGED
    return WITHIN if sigmas <= TIE else BEYOND


def _listed(top: Sequence[Sequence[Any]]) -> str:
    return "   ".join(f"{visible(text)} {probability:.1%}" for _, text, probability in top)
