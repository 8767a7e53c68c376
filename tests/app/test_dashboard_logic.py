# SPDX-License-Identifier: Apache-2.0
"""What the dashboard says and picks, without a browser: Streamlit's AppTest on sample runs, and the app's functions."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_runs import BROKEN, FAULTY, SOUND
from shown_pages import Shown, texts

from charts.scales import domain_of, round_values
from data import find_runs
from tttdebug.tracking.manifest import Manifest, Unpaired
from tttdebug.tracking.run import MANIFEST, RECORDS, Run
from wording import code, plain


def test_a_sound_run_is_called_sound(shown: Shown, runs: Path) -> None:
    app = shown(runs, "overview", run=SOUND)
    assert not app.exception
    assert "The port follows its reference" in app.header[0].value
    assert "miss them by no more than the number formats cause" in texts(app)


def test_a_run_with_wrong_weights_is_not_called_sound(shown: Shown, runs: Path, tmp_path: Path) -> None:
    path = Run.load(runs / SOUND).save(tmp_path / "weights")
    fault = {"source": "a.weight", "path": "a.w1", "status": "permuted", "detail": "exchanged: holds b.weight"}
    replace(Manifest.read(path / MANIFEST), weights={"summary": "", "faults": [fault]}).write(path / MANIFEST)
    app = shown(tmp_path, "overview", run="weights")
    assert not app.exception
    assert "weights of the port are not the checkpoint's" in app.header[0].value
    assert "permuted: exchanged: holds b.weight" in texts(app)


def test_modules_without_a_counterpart_are_listed_with_their_reasons(shown: Shown, runs: Path, tmp_path: Path) -> None:
    path = Run.load(runs / SOUND).save(tmp_path / "foreign")
    alone = Unpaired("port", "rope_setup", "rotary tables have no boundary")
    replace(Manifest.read(path / MANIFEST), unpaired=(alone,), precision="").write(path / MANIFEST)
    app = shown(tmp_path, "overview", run="foreign")
    assert not app.exception
    assert [alone.side, alone.path, alone.reason] in [table.value.iloc[0].tolist() for table in app.dataframe]


def test_counts_by_verdict_are_those_of_the_chosen_call(shown: Shown, runs: Path) -> None:
    app = shown(runs, "overview", run=BROKEN, phase="decode", step="1")
    records = [record for record in Run.load(runs / BROKEN).records if (record.phase, record.step) == ("decode", 1)]
    for verdict in ("ok", "floor", "diverged"):
        assert f"{sum(record.verdict == verdict for record in records)} {verdict}" in texts(app)


def test_without_a_call_in_the_address_the_first_divergence_is_shown(shown: Shown, runs: Path) -> None:
    app = shown(runs, "module", run=BROKEN)
    assert FAULTY in app.header[0].value
    assert app.selectbox(key="choose Call").value == ("prefill", 0)


@pytest.mark.parametrize(
    "address", [{"phase": "decode", "step": "99"}, {"user": "7"}, {"mode": "isolated"}, {"boundary": "L99.mlp"}]
)
def test_an_address_that_names_what_is_not_there_says_so(shown: Shown, runs: Path, address: dict[str, str]) -> None:
    app = shown(runs, "module", run=BROKEN, **address)
    assert not app.exception
    assert "does not have" in app.info[0].value


def test_a_call_with_non_finite_and_mismatched_boundaries_is_shown(shown: Shown, runs: Path) -> None:
    for page, boundary in (
        ("overview", "L01.mlp"),
        ("module", "L01.mlp"),
        ("module", "L02.self_attn"),
        ("layer", "embed"),
    ):
        app = shown(runs, page, run="incomparable", boundary=boundary)
        assert not app.exception
    app = shown(runs, "module", run="incomparable")
    assert "holds inf or NaN: 1 of 6,144 values in the port, 0 in the reference" in texts(app)


def test_a_run_that_grows_is_read_anew(shown: Shown, runs: Path, tmp_path: Path) -> None:
    growing = tmp_path / "growing"
    shutil.copytree(runs / "unfinished", growing)
    first = shown(tmp_path, "overview", run="growing")
    assert "14 of 99 comparisons" in texts(first)
    torn = (growing / RECORDS).read_text(encoding="utf-8")
    whole = torn[: torn.rindex("\n") + 1]
    (growing / RECORDS).write_text(whole + whole, encoding="utf-8")
    assert "28 of 99 comparisons" in texts(first.run())


def test_an_empty_folder_says_how_to_make_a_run(shown: Shown, tmp_path: Path) -> None:
    app = shown(tmp_path, "runs")
    assert not app.exception
    assert app.code[-1].value == "tttdebug run --model llama"


def test_runs_are_found_below_a_folder_and_a_run_is_found_as_itself(runs: Path) -> None:
    assert {BROKEN, SOUND, "archive/two_users", "damaged"} <= find_runs(runs).keys()
    assert "notes" not in find_runs(runs)
    assert find_runs(runs / SOUND) == {SOUND: runs / SOUND}


@given(st.text())
def test_a_code_span_ends_only_at_its_end(text: str) -> None:
    span = code(text)
    fence = span[: len(span) - len(span.lstrip("`"))]
    inside = span[len(fence) : -len(fence)]
    assert span.endswith(fence)
    assert "\n" not in span
    assert fence not in inside.strip() or not inside.strip()


@pytest.mark.parametrize("name", ["L07.self_attn", "embed", "llama", "2026-11-22 14:05"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert plain(name) == name


@pytest.mark.parametrize("name", ["www.example.com", "_x_", "a:smile:", "<b>", "a b", "1. x", "http://a.b"])
def test_what_markdown_would_read_becomes_code(name: str) -> None:
    assert plain(name) == f"`{name}`"


@given(st.lists(st.floats(min_value=0, max_value=1e3), min_size=1))
def test_a_log_scale_holds_every_error_and_has_round_labels(errors: list[float]) -> None:
    low, high = domain_of([pd.Series(errors)])
    assert 0 < low < high
    assert max(errors) < high
    labels = round_values((low, high), at_most=4)
    assert 2 <= len(labels) <= 4
    assert all(low <= label <= high for label in labels)
