# SPDX-License-Identifier: Apache-2.0
"""The list of runs, runs compared, a layer, and the grids of the overview: what they say, without a browser."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from time import time

import numpy as np
import pandas as pd
import pytest
from sample_runs import (
    BROKEN,
    DECODE_STEPS,
    FAULTY,
    LAYERS,
    SOUND,
    Model,
    add_pair,
    open_writer,
    write_explained_run,
    write_run_with_ops,
)
from shown_pages import Shown, texts
from streamlit.testing.v1 import AppTest

import grids
from data import QUIET_SECONDS
from places import place_of
from tttdebug.tracking.opened_run import OpenedRun


def table(app: AppTest, column: str) -> pd.DataFrame:
    """The first table that has such a column."""
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    write_explained_run(folder / BROKEN)
    return folder


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        ({"find": "L03 llama_"}, {BROKEN, SOUND}),
        ({"find": "nothing like it"}, set()),
        ({"outcome": "unreadable"}, {"damaged", "newer"}),
        ({"find": "two", "outcome": "failed"}, {"archive/two_users"}),
        ({"outcome": "no such outcome", "find": SOUND}, {SOUND}),
    ],
)
def test_runs_are_found_by_words_and_outcome(shown: Shown, runs: Path, sought: dict[str, str], found: set[str]) -> None:
    app = shown(runs, "runs", **sought)
    assert not app.exception
    if found:
        assert set(table(app, "outcome")["run"]) == found
    else:
        assert "No run is like that." in texts(app)


def test_a_run_that_is_written_is_running_until_it_has_been_quiet_for_long(shown: Shown, tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "grows", "llama")
    for pair in Model().call(4, faulty=None)[:3]:
        add_pair(writer, pair, "prefill", 0, 0)
    assert table(shown(tmp_path, "runs"), "outcome")["outcome"].tolist() == ["– running"]
    assert "still being written" in texts(shown(tmp_path, "overview", run="grows"))
    for path in (tmp_path / "grows").iterdir():
        os.utime(path, (0, time() - QUIET_SECONDS - 1))
    assert table(shown(tmp_path, "runs"), "outcome")["outcome"].tolist() == ["– unfinished"]
    assert "probably been ended" in texts(shown(tmp_path, "overview", run="grows"))


def test_a_worse_run_is_called_worse_and_the_worst_boundary_comes_first(shown: Shown, runs: Path) -> None:
    app = shown(runs, "compare", run=BROKEN, against=SOUND)
    assert not app.exception
    assert "worse since" in texts(app)
    first = table(app, "change").iloc[0]
    assert (first["change"], first["boundary"]) == ("▲ worse", FAULTY)
    assert "Nothing is worse" in texts(shown(runs, "compare", run=SOUND, against=BROKEN))


def test_what_differs_around_the_numbers_is_said(shown: Shown, runs: Path, tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "other", "llama")
    writer.manifest = replace(writer.manifest, precision="performance")
    for pair in Model().call(64, faulty=None):
        add_pair(writer, pair, "prefill", 0, 0)
    writer.finish()
    shutil.copytree(runs / SOUND, tmp_path / SOUND)
    app = shown(tmp_path, "compare", run="other", against=SOUND)
    assert ["precision", "accuracy", "performance"] in table(app, "differs").values.tolist()
    assert "vanished" in texts(app)


@pytest.mark.parametrize(
    ("against", "said"),
    [("archive/two_users", "they read other prompts"), ("damaged", "damaged"), ("nowhere", "is no run here")],
)
def test_what_cannot_be_compared_says_why(shown: Shown, runs: Path, against: str, said: str) -> None:
    app = shown(runs, "compare", run=BROKEN, against=against)
    assert not app.exception
    assert said in texts(app) + "\n".join(block.value for block in app.code)


def test_several_runs_stand_side_by_side(shown: Shown, runs: Path, explained: Path) -> None:
    shutil.copytree(runs / SOUND, explained / SOUND, dirs_exist_ok=True)
    shutil.copytree(runs / SOUND, explained / "again", dirs_exist_ok=True)
    app = shown(explained, "compare", run=BROKEN)
    assert "Pick the runs" in texts(app)
    app.query_params["against"] = [SOUND, "again"]
    across = table(app.run(), "greatest change")
    assert list(across.columns) == ["boundary", "phase", BROKEN, SOUND, "again", "greatest change"]
    assert across["greatest change"].is_monotonic_decreasing


def test_a_layer_says_where_its_error_comes_from(shown: Shown, explained: Path) -> None:
    app = shown(explained, "layer", run=BROKEN, boundary=FAULTY)
    assert not app.exception
    rows = table(app, "isolated").set_index("boundary")
    run = OpenedRun.load(explained / BROKEN)
    (own,) = [r for r in run.experiments if r.boundary == FAULTY and r.mode == "isolated" and r.phase == "prefill"]
    assert rows.loc[FAULTY, "isolated"] == own.rel_l2
    assert rows.loc["L03.input_norm", "isolated"] < rows.loc[FAULTY, "isolated"]
    assert "--ops" in app.code[-1].value


def test_ops_of_the_layer_in_the_call_that_is_looked_at_are_listed(shown: Shown, tmp_path: Path) -> None:
    write_run_with_ops(tmp_path / "ops")
    app = shown(tmp_path, "layer", run="ops", boundary="L01.mlp")
    assert not app.exception
    ops = table(app, "op")
    assert ops["op"].tolist() == ["linear", "gelu"]
    assert ops["rel L2"].tolist() == [0.01, 0.02]
    assert "No op of these modules" in texts(shown(tmp_path, "layer", run="ops", boundary="L02.mlp"))


@pytest.mark.parametrize("cells_at_once", [grids.MOST_CELLS, (LAYERS + 3) * 2])
@pytest.mark.parametrize("by", ["rel_l2", "distance"])
def test_each_cell_of_a_grid_shows_its_worst_record(explained: Path, by: str, cells_at_once: int) -> None:
    records = OpenedRun.load(explained / BROKEN).records
    badness, _ = grids.badness_of(records, by)
    cells, together = grids.by_call(records, badness, cells_at_once)
    rows = cells_at_once // (LAYERS + 3)
    assert together == (1 if rows > DECODE_STEPS else 2)
    assert len(set(cells["row"])) == min(1 + DECODE_STEPS, rows)
    faulty = cells[cells["place"] == place_of(FAULTY)]
    assert set(faulty["boundary"]) == {FAULTY}
    assert np.nanmax(cells["badness"]) == np.nanmax(badness)
