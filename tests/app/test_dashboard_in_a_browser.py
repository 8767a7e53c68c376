# SPDX-License-Identifier: Apache-2.0
"""The dashboard as a reader uses it, in a real Chromium. Screenshots land in test-artifacts/dashboard/."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from dashboard_reader import MAIN, Reader
from playwright.sync_api import expect
from sample_runs import BROKEN, MARKUP, SOUND

pytestmark = pytest.mark.browser

NAME_WIDTH, BANDS = 150, 8  # of a depth panel: embed, L00 … L05, final_norm, logits are 9 bands, numbered from 0
ROW_HEIGHT = 35
BOX_WIDTH = 70  # of the box in which a table's rows are ticked
MLP_IN_DIAGRAM = (350, 200)


def place_in_panel(reader: Reader, key: str, band: int) -> tuple[float, float]:
    """Where a layer is drawn in a depth panel."""
    box = reader.page.locator(f".st-key-{key}").bounding_box()
    assert box is not None
    return NAME_WIDTH + (box["width"] - NAME_WIDTH) * (band + 0.5) / (BANDS + 1), box["height"] / 2


def test_clicks_lead_from_the_verdict_to_the_faulty_module(reader: Reader) -> None:
    reader.open(f"/overview?run={BROKEN}")
    reader.title("▼ The port diverges, first at L03.mlp")
    reader.keep("overview")
    reader.click_in("depth-rel_l2-mlp", *place_in_panel(reader, "depth-rel_l2-mlp", band=4))
    reader.title("L03")
    expect(reader.page).to_have_url(re.compile("/layer.*boundary=L03.mlp"))
    reader.keep("layer")
    reader.click_in("diagram-L03", *MLP_IN_DIAGRAM)
    reader.title("▼ L03.mlp")
    reader.see("Misses its gate")
    reader.see("Worst elements")
    reader.keep("module")
    reader.page.go_back()
    reader.title("L03")
    reader.page.go_back()
    reader.title("▼ The port diverges, first at L03.mlp")


def test_a_run_is_opened_from_the_list(reader: Reader) -> None:
    reader.open("/")
    reader.title("Runs")
    reader.keep("runs")
    reader.click_in("runs", BOX_WIDTH, ROW_HEIGHT * 1.5)
    expect(reader.page).to_have_url(re.compile(r"/overview\?run=archive%2Ftwo_users"))
    reader.choose("User", "1")
    expect(reader.page).to_have_url(re.compile("user=1"))


def test_a_link_shows_what_it_names_and_survives_a_reload(reader: Reader) -> None:
    reader.open(f"/?run={BROKEN}&boundary=L02.self_attn&phase=decode&step=1")
    for _ in range(2):
        reader.title(re.compile("^. L02.self_attn$"))
        assert reader.chosen("Call") == "decode 1"
        reader.page.reload()


def test_choosing_with_the_keyboard_changes_page_and_address(reader: Reader) -> None:
    reader.open(f"/module?run={BROKEN}&boundary=L01.mlp")
    reader.title(re.compile("^. L01.mlp$"))
    reader.choose("Call", "decode 0")
    expect(reader.page).to_have_url(re.compile("phase=decode&step=0"))
    reader.choose("Boundary", "logits")
    reader.title(re.compile("^. logits$"))
    reader.page.go_back()
    reader.title(re.compile("^. L01.mlp$"))
    assert reader.chosen("Boundary") == "L01.mlp"
    reader.choose("Run", SOUND)
    expect(reader.page).to_have_url(re.compile(SOUND))


@pytest.mark.parametrize(
    ("run", "said"),
    [("damaged", "records.jsonl is damaged"), ("newer", "has schema 99"), ("no/such", "no run is named")],
)
def test_a_run_that_cannot_be_read_says_why(reader: Reader, run: str, said: str) -> None:
    reader.open(f"/module?run={run}&boundary=L03.mlp")
    reader.title("This run cannot be shown")
    reader.see(said)
    expect(reader.page.get_by_test_id("stException")).to_have_count(0)
    reader.keep(f"unreadable_{run.replace('/', '_')}")


def test_an_unfinished_run_shows_what_there_is(reader: Reader) -> None:
    reader.open("/overview?run=unfinished")
    reader.title("– Nothing diverges so far")
    reader.see("14 of 99 comparisons")
    reader.keep("unfinished")


def test_names_and_texts_of_a_run_are_never_interpreted(reader: Reader) -> None:
    reader.open("/overview?run=hostile")
    reader.title(f"▼ The port diverges, first at L00.{MARKUP[0]}")
    reader.open("/tokens?run=hostile")
    reader.title("– The next token differs after 4 of 4 tokens")
    for text in MARKUP:
        expect(reader.page.get_by_text(text, exact=True).first).to_be_attached()
    for number, text in enumerate(MARKUP):
        reader.open(f"/module?run=hostile&boundary={quote(f'L{number:02d}.{text}')}")
        reader.title(f"▼ L{number:02d}.{text}")
        expect(reader.page.locator("img[src='x'], a[href^='javascript']")).to_have_count(0)


def test_a_narrow_dark_window_cuts_nothing_off(reader: Reader) -> None:
    reader.sit("dark", width=700)
    titles = {"overview": "▼ The port diverges, first at L03.mlp", "layer": "L03", "module": "▼ L03.mlp"}
    for page, title in titles.items():
        reader.open(f"/{page}?run={BROKEN}&boundary=L03.mlp")
        reader.title(title)
        assert reader.page.locator(MAIN).evaluate("main => main.scrollWidth") <= 700
        reader.keep(f"{page}_narrow_dark")
