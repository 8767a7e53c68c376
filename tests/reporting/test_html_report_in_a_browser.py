# SPDX-License-Identifier: Apache-2.0
"""The HTML report in a real browser: it asks for nothing, runs nothing, fits a telephone, and is open on paper."""

from __future__ import annotations

import pytest

from tttdebug.reporting.reports import write_report

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.asked, page.said = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
    yield page
    page.close()


def opened(page, run, tmp_path):
    path = write_report(run, "html", tmp_path / "report.html")
    page.goto(path.as_uri())
    return path.as_uri()


@pytest.mark.parametrize("name", ["broken", "sound", "unfinished", "incomparable", "hostile"])
def test_it_asks_for_nothing_and_runs_nothing(page, name, request, tmp_path):
    address = opened(page, request.getfixturevalue(name), tmp_path)
    page.mouse.move(300, 300)
    assert page.asked == [address]
    assert page.said == []
    assert page.locator("h1").count() == 1
    assert page.locator("script, img, iframe").count() == 0


def test_the_verdict_is_drawn_in_its_colour_in_both_schemes(page, broken, tmp_path):
    opened(page, broken, tmp_path)
    for scheme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 28)")):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        fills = page.locator(".panels .mark.injected").evaluate_all("all => all.map(one => getComputedStyle(one).fill)")
        assert set(fills) == {"rgb(221, 85, 0)"}


def test_it_fits_a_narrow_window(page, broken, tmp_path):
    page.set_viewport_size({"width": 400, "height": 800})
    opened(page, broken, tmp_path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_what_is_folded_is_open_on_paper_and_the_paper_white(page, broken, tmp_path):
    opened(page, broken, tmp_path)
    folded = page.locator("details dl.texts").first
    assert not folded.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    assert folded.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
