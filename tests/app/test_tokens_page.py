# SPDX-License-Identifier: Apache-2.0
"""The page of tokens: what it says of flips, which token it shows, and that long or hostile texts do it no harm."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from dashboard_reader import Reader
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect
from sample_runs import BROKEN, MARKUP, SOUND
from shown_pages import Shown, texts
from streamlit.testing.v1 import AppTest

from charts.tokens import margin_chart, text_chart
from continuations import shared
from looks import LIGHT
from predictions import COLUMNS, PAGE, WITHIN, laid_out, visible
from tttdebug.analysis.ties import TIE, in_noise, noise_of_logits
from tttdebug.reporting.wording import size
from tttdebug.tracking.manifest import Manifest
from tttdebug.tracking.run import MANIFEST, TOKENS, Run


def rewritten(run: Run, folder: Path, lines: list[dict[str, object]]) -> None:
    """A copy of a run with other tokens."""
    run.save(folder)
    (folder / TOKENS).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    manifest = Manifest.read(folder / MANIFEST)
    seals = {name: seal for name, seal in manifest.seals.items() if name != TOKENS}
    replace(manifest, seals=seals).write(folder / MANIFEST)


def detail(app: AppTest) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of the reference's and the port's likeliest tokens."""
    return app.dataframe[0].value, app.dataframe[1].value


def test_flips_are_counted_and_judged_by_the_margin_against_the_noise(shown: Shown, runs: Path) -> None:
    run = Run.load(runs / BROKEN)
    noise = {(r.phase, r.step): noise_of_logits(r) for r in run.records if r.boundary == "logits"}
    flips = [line for line in run.tokens if line["reference_top"][0][0] != line["port_top"][0][0]]
    ties = [line for line in flips if in_noise(line["margin"], noise[line["phase"], line["step"]]) <= TIE]
    assert 0 < len(ties) < len(flips) < len(run.tokens)
    app = shown(runs, "tokens", run=BROKEN)
    assert not app.exception
    assert f"after {len(flips)} of {len(run.tokens)} tokens" in app.header[0].value
    assert f"{len(flips) - len(ties)} beyond it; {len(ties)} within it" in texts(app)


def test_the_worst_token_is_shown_unless_the_address_names_another(shown: Shown, runs: Path) -> None:
    lines = Run.load(runs / BROKEN).tokens
    worst = max(lines, key=lambda line: line["kl"])
    app = shown(runs, "tokens", run=BROKEN)
    assert app.selectbox(key="choose Token").value == worst["position"]
    app = shown(runs, "tokens", run=BROKEN, token="65")
    reference, port = detail(app)
    last = next(line for line in lines if line["position"] == 65)
    assert reference["id"].tolist() == [token for token, _, _ in last["reference_top"]]
    assert port["probability"].tolist() == [probability for _, _, probability in last["port_top"]]
    assert "decode 1" in texts(app)


def test_choosing_a_token_changes_the_address(shown: Shown, runs: Path) -> None:
    app = shown(runs, "tokens", run=BROKEN)
    app.selectbox(key="choose Token").set_value(7).run()
    assert app.query_params["token"] == "7"
    line = next(line for line in Run.load(runs / BROKEN).tokens if line["position"] == 7)
    assert app.metric[0].value == size(line["kl"])


def test_a_token_that_is_not_there_is_said_to_be_missing(shown: Shown, runs: Path) -> None:
    app = shown(runs, "tokens", run=BROKEN, token="x")
    assert not app.exception
    assert "does not have" in app.info[0].value


def test_each_user_has_tokens_of_their_own(shown: Shown, runs: Path) -> None:
    app = shown(runs, "tokens", run="archive/two_users", user="1", token="0")
    line = next(line for line in Run.load(runs / "archive" / "two_users").tokens if line["user"] == 1)
    assert detail(app)[0]["probability"].tolist() == [probability for _, _, probability in line["reference_top"]]


def test_sides_that_agree_everywhere_are_said_to(shown: Shown, runs: Path, tmp_path: Path) -> None:
    run = Run.load(runs / SOUND)
    rewritten(run, tmp_path / "equal", [line | {"port_top": line["reference_top"], "kl": 0.0} for line in run.tokens])
    app = shown(tmp_path, "tokens", run="equal")
    assert not app.exception
    assert "the same next token everywhere" in app.header[0].value


def test_a_kl_that_is_not_finite_comes_first_and_is_no_tie(shown: Shown, runs: Path, tmp_path: Path) -> None:
    run = Run.load(runs / SOUND)
    rewritten(
        run, tmp_path / "nan", [line | ({"kl": math.nan} if line["position"] == 5 else {}) for line in run.tokens]
    )
    app = shown(tmp_path, "tokens", run="nan")
    assert not app.exception
    assert app.selectbox(key="choose Token").value == 5
    assert "not finite after 1 of" in app.header[0].value
    assert "hold inf or NaN" in texts(app)


def test_a_long_text_is_drawn_in_parts(shown: Shown, runs: Path, tmp_path: Path) -> None:
    run = Run.load(runs / SOUND)
    prompt = [line for line in run.tokens if line["phase"] == "prefill"]
    lines = [prompt[at % len(prompt)] | {"position": at} for at in range(3 * PAGE)]
    lines[2 * PAGE + 3] |= {"kl": 99.0}
    rewritten(run, tmp_path / "long", lines)
    app = shown(tmp_path, "tokens", run="long", token=str(PAGE))
    assert not app.exception
    assert len(app.selectbox(key="choose Token").options) == PAGE
    app.radio(key="choose Positions").set_value(2).run()
    assert app.query_params["token"] == str(2 * PAGE + 3)


def test_a_run_without_predictions_says_so(shown: Shown, runs: Path) -> None:
    app = shown(runs, "tokens", run="unfinished")
    assert not app.exception
    assert "compared no next tokens" in app.info[0].value


def test_the_overview_leads_to_the_tokens(shown: Shown, runs: Path) -> None:
    links = [link.label for link in shown(runs, "overview", run=BROKEN).get("page_link")]
    assert "Look at the tokens" in links


@given(st.text(max_size=60))
def test_a_token_is_one_short_printable_line(text: str) -> None:
    sign = visible(text)
    assert sign
    assert sign.isprintable()
    assert len(sign) <= COLUMNS
    assert " " not in sign


@given(st.lists(st.text(st.sampled_from("ab \n日"), max_size=30), min_size=1, max_size=60))
def test_no_two_tokens_are_drawn_over_each_other(tokens: list[str]) -> None:
    table = pd.DataFrame({"text": [visible(text) for text in tokens], "phase": "prefill", "line": None})
    placed = laid_out(table)
    for _, row in placed.groupby("row"):
        assert (row["start"].to_numpy()[1:] == row["end"].to_numpy()[:-1]).all()
        assert row["start"].iloc[0] == 0
        assert row["end"].max() <= COLUMNS
    assert placed["row"].is_monotonic_increasing


@given(st.text(st.sampled_from("ab \n")), st.text(st.sampled_from("ab \n")))
def test_texts_share_what_both_begin_with_and_no_half_word(reference: str, port: str) -> None:
    same = shared(reference, port)
    assert reference.startswith(same)
    assert port.startswith(same)
    assert same == reference == port or not same or same[-1].isspace()


def test_flips_are_marked_by_outline_and_shape_and_not_by_colour_alone() -> None:
    tokens = pd.DataFrame(
        {
            "position": [0, 1],
            "phase": "prefill",
            "text": ["a", "b"],
            "kl": [0.01, 0.2],
            "margin": [2.0, 0.1],
            "flip": ["same", WITHIN],
            "kl_text": "",
            "margin_text": "",
            "reference_top": "",
            "port_top": "",
            "line": None,
        }
    )
    layers = text_chart(laid_out(tokens), 0, LIGHT).to_dict()["layer"]
    assert [layer["mark"]["strokeDash"] for layer in layers if "strokeDash" in layer["mark"]] == [[1, 0], [3, 2]]
    marks = margin_chart(tokens, 0, math.nan, LIGHT).to_dict()["layer"][0]["encoding"]
    assert len(set(marks["shape"]["scale"]["range"])) == 2


@pytest.mark.browser
def test_clicks_on_the_text_choose_tokens_and_back_returns(reader: Reader) -> None:
    reader.open(f"/tokens?run={BROKEN}&token=65")
    reader.see("position 65")
    reader.keep("tokens")
    text = reader.page.locator(".st-key-text").bounding_box()
    assert text is not None
    reader.click_in("text", text["width"] * 0.2, 77)
    expect(reader.page).to_have_url(re.compile(r"token=(?!65)\d+$"))
    reader.page.go_back()
    reader.see("position 65")
    reader.sit("dark", width=700)
    reader.open("/tokens?run=hostile")
    reader.title("– The next token differs after 4 of 4 tokens")
    expect(reader.page.locator("img[src='x'], a[href^='javascript']")).to_have_count(0)
    expect(reader.page.get_by_text(MARKUP[0], exact=True).first).to_be_attached()
    reader.keep("tokens_hostile_narrow_dark")
