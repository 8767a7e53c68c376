# SPDX-License-Identifier: Apache-2.0
"""From the list of runs to the place of an error, and a run that grows while it is looked at, in a real Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_reader import MAIN, Reader
from playwright.sync_api import expect
from sample_runs import BROKEN, SOUND
from test_dashboard_in_a_browser import ROW_HEIGHT, place_in_panel

from tttdebug.tracking.run import RECORDS

pytestmark = pytest.mark.browser

TICK = 15  # pixels from a table's left edge to the middle of a row's box
IN_FIRST_ROW, A_ROW = 14, 20  # of a heat map


@pytest.fixture
def growing(runs: Path) -> Iterator[Path]:
    """A run of which so far there is nothing but its head."""
    path = runs / "growing"
    shutil.copytree(runs / "unfinished", path)
    (path / RECORDS).write_text("", encoding="utf-8")
    yield path
    shutil.rmtree(path)


def test_a_run_is_followed_while_it_grows(reader: Reader, runs: Path, growing: Path) -> None:
    lines = (runs / "unfinished" / RECORDS).read_text(encoding="utf-8").splitlines(keepends=True)[:-1]
    reader.open("/overview?run=growing")
    reader.title("Nothing has been compared")
    for number in (5, 14):
        (growing / RECORDS).write_text("".join(lines[:number]), encoding="utf-8")
        reader.see(f"{number} of 99 comparisons")
    reader.title("– Nothing diverges so far")
    reader.open("/?find=growing")
    reader.see("Click a run to open it")


def test_runs_that_are_ticked_are_compared(reader: Reader) -> None:
    reader.open("/?find=llama_nov22")
    reader.title("Runs")
    for row in (1, 2):
        reader.click_in("runs", TICK, ROW_HEIGHT * (row + 0.5))
        reader.settle()
    reader.page.get_by_role("button", name="Compare 2 runs").click()
    reader.title(re.compile("^Compare llama_nov22_1"))
    expect(reader.page).to_have_url(re.compile(r"/compare\?run=llama_nov22_\d+&against=llama_nov22_\d+"))
    reader.keep("compare")


def test_a_boundary_that_got_worse_leads_to_its_module(reader: Reader) -> None:
    reader.open(f"/compare?run={BROKEN}&against={SOUND}")
    reader.title(f"Compare {BROKEN}")
    reader.see("worse since")
    reader.click_in(f"changes-{SOUND}", 150, ROW_HEIGHT * 1.5)
    reader.title("▼ L03.mlp")
    reader.sit("dark", width=700)
    reader.page.go_back()
    reader.title(f"Compare {BROKEN}")
    assert reader.page.locator(MAIN).evaluate("main => main.scrollWidth") <= 700
    reader.keep("compare_narrow_dark")


def test_a_cell_leads_to_its_layer_in_its_call(reader: Reader) -> None:
    reader.open(f"/overview?run={BROKEN}")
    key = "calls-rel_l2-all-modules"
    reader.click_in(key, place_in_panel(reader, key, band=4)[0], IN_FIRST_ROW + 2 * A_ROW)
    reader.title("L03")
    expect(reader.page).to_have_url(re.compile("/layer.*phase=decode.*step=1"))
    assert reader.chosen("Call") == "decode 1"
    reader.open(f"/overview?run={BROKEN}")
    reader.click_in("depth-rel_l2", place_in_panel(reader, "depth-rel_l2", band=4)[0], IN_FIRST_ROW + 3 * A_ROW)
    reader.title("L03")
    expect(reader.page).to_have_url(re.compile("boundary=L03.mlp&phase=prefill"))
