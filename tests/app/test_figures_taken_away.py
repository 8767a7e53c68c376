# SPDX-License-Identifier: Apache-2.0
"""Every figure and table can be taken away: SVG and PNG, the data as CSV, also with the keyboard alone."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from dashboard_reader import Reader
from playwright.sync_api import Locator, expect
from sample_runs import BROKEN, SOUND

from tttdebug.reporting.palette import PRIMARY

pytestmark = pytest.mark.browser
CHART = '[data-testid="stVegaLiteChart"]'
PAGES = ("overview?", "layer?", "module?", "tokens?", "precision?", f"compare?against={SOUND}&")
WITHOUT_SAVE_DIALOG = "delete window.showSaveFilePicker"
"""As browsers other than Chromium are: a table's CSV then is a download like any other."""

RING = f"""() => {{
    const at = document.activeElement, look = getComputedStyle(at), around = getComputedStyle(at.parentElement);
    const ringed = look.outlineStyle !== 'none' && look.outlineWidth !== '0px';
    const colour = document.createElement('i');
    colour.style.color = '{PRIMARY}';
    const bordered = around.borderColor === colour.style.color, scrolls = at.matches('[data-testid="stMain"]');
    return [at.getAttribute('aria-label') || at.textContent, ringed || bordered || scrolls];
}}"""
"""What the keyboard is at, and whether it has a ring, or lies in a box whose border has our colour.

The page itself, which scrolls by the keyboard, needs none."""


def taken(reader: Reader, button: Locator, folder: Path) -> Path:
    with reader.page.expect_download() as download:
        button.click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def frame(reader: Reader, key: str) -> Locator:
    """A chart with its toolbar, which shows when the mouse is over it."""
    found = reader.page.locator(f".st-key-{key}")
    found.hover()
    return found


def test_a_figure_is_taken_away_as_svg_png_and_csv(reader: Reader, tmp_path: Path) -> None:
    reader.page.add_init_script(WITHOUT_SAVE_DIALOG)
    reader.sit("dark", 1280)
    reader.open(f"/overview?run={BROKEN}")
    panel = frame(reader, "depth-rel_l2-mlp")
    drawn = ElementTree.parse(taken(reader, panel.get_by_role("button", name="Download as SVG"), tmp_path)).getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert "background-color: rgb(" in drawn.attrib["style"]
    assert "mlp" in "".join(drawn.itertext())
    png = taken(reader, panel.get_by_role("button", name="Download as PNG"), tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    panel.get_by_role("button", name="Show data").click()
    expect(panel.get_by_role("button", name="Show chart")).to_be_visible()
    panel.hover()
    data = pd.read_csv(taken(reader, panel.get_by_role("button", name="Download as CSV"), tmp_path))
    assert data["boundary"].str.endswith(".mlp").all()


def test_a_table_is_taken_away_as_csv(reader: Reader, tmp_path: Path) -> None:
    reader.page.add_init_script(WITHOUT_SAVE_DIALOG)
    reader.open(f"/precision?run={BROKEN}")
    costs = frame(reader, "costs")
    data = pd.read_csv(taken(reader, costs.get_by_role("button", name="Download as CSV"), tmp_path))
    assert "logits" in data["module"].tolist()


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_has_every_button_once(reader: Reader, page: str) -> None:
    reader.open(f"/{page}run={BROKEN}")
    figures = reader.page.locator('[data-testid="stFullScreenFrame"]', has=reader.page.locator(CHART))
    assert figures.count() > 0
    for figure in figures.all():
        for label in ("Show data", "Download as PNG", "Download as SVG"):
            expect(figure.get_by_role("button", name=label)).to_have_count(1)


def test_the_buttons_of_a_figure_show_when_the_keyboard_reaches_them(reader: Reader, tmp_path: Path) -> None:
    reader.open(f"/precision?run={BROKEN}")
    button = reader.page.locator(".st-key-map-Number-formats").get_by_role("button", name="Download as SVG")
    button.focus()
    bar = reader.page.locator(".st-key-map-Number-formats").get_by_test_id("stElementToolbar")
    expect(bar).to_have_css("opacity", "1")
    with reader.page.expect_download() as download:
        reader.page.keyboard.press("Enter")
    assert download.value.suggested_filename == "map-Number-formats.svg"


def test_what_the_keyboard_reaches_is_ringed(reader: Reader) -> None:
    reader.open(f"/precision?run={BROKEN}")
    seen = set()
    for _ in range(14):
        reader.page.keyboard.press("Tab")
        name, ringed = reader.page.evaluate(RING)
        seen.add(name)
        assert ringed, f"no ring around {name!r}"
    assert {"Run", "Call", "Show data"} <= seen
