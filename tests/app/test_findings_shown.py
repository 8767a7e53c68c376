# SPDX-License-Identifier: Apache-2.0
"""What the dashboard says of an explained run: its findings, or that there are none and what the formats cost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sample_runs import BROKEN, FAULTY, MARKUP, finding, write_explained_run, write_run
from shown_pages import Shown, texts

from tttdebug.tracking.record import Key
from tttdebug.tracking.reopening import ReopenedRun


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    write_explained_run(folder / "broken")
    write_explained_run(folder / "sound", faulty=None)
    return folder


def test_a_finding_is_a_card_with_evidence_change_and_command(shown: Shown, explained: Path) -> None:
    app = shown(explained, "overview", run="broken")
    assert not app.exception
    assert "What is wrong" in [header.value for header in app.subheader]
    assert f"1. {FAULTY}: channels_permuted" in texts(app)
    said = "\n".join(text.value for text in app.text)
    assert f"{FAULTY}: the output's channels are rolled by 3; that accounts for its rel_l2 of 1.41" in said
    assert "scaled: " in said
    assert "97.0% of the final error" in texts(app)
    codes = [code.value for code in app.code]
    assert "out = ttnn.roll(out, -3, -1)" in codes
    assert any('"FF2": "BF16"' in code for code in codes)
    assert f"tttdebug explain {explained / 'broken'}" in codes
    evidence = next(table.value for table in app.dataframe if "experiment" in table.value)
    assert evidence["after"].tolist() == [0.183, 0.186]
    assert evidence["floor"].isna().tolist() == [False, True]


def test_whose_fault_each_boundary_is_stands_in_the_tally(shown: Shown, explained: Path) -> None:
    app = shown(explained, "overview", run="broken")
    assert "1 injected" in texts(app)
    assert " inherited" in texts(app)
    assert "isolated error" in texts(app)


@pytest.mark.parametrize("mode", ["isolated", "inherited"])
@pytest.mark.parametrize("page", ["overview", "layer", "module"])
def test_the_other_errors_can_be_looked_at(shown: Shown, explained: Path, page: str, mode: str) -> None:
    app = shown(explained, page, run="broken", boundary=FAULTY, mode=mode)
    assert not app.exception
    assert not any("does not have" in info.value for info in app.info)
    assert app.selectbox(key="choose Error").value == mode


def test_without_a_finding_the_cost_of_the_formats_is_shown(shown: Shown, explained: Path) -> None:
    app = shown(explained, "overview", run="sound")
    assert not app.exception
    assert "Nothing is wrong" in [header.value for header in app.subheader]
    costs = next(table.value for table in app.dataframe if "formats" in table.value)
    assert costs["module"].iloc[0] == "mlp"


def test_a_run_that_nobody_explained_says_how(shown: Shown, tmp_path: Path) -> None:
    write_run(tmp_path / BROKEN)
    app = shown(tmp_path, "overview", run=BROKEN)
    assert f"tttdebug explain {tmp_path / BROKEN}" in [code.value for code in app.code]


def test_texts_of_findings_are_never_markup(shown: Shown, tmp_path: Path) -> None:
    run = write_run(tmp_path / "hostile")
    found = [finding(text, [Key(text)], text).to_json() for text in MARKUP]
    ReopenedRun(run).finish({}, found, MARKUP)
    app = shown(tmp_path, "overview", run="hostile")
    assert not app.exception
    read_as_markdown = "\n".join(element.value for element in (*app.markdown, *app.caption))
    outside_code = re.sub(r"(`+) ?.*? ?\1(?!`)", "", read_as_markdown)
    assert "Shown by" in outside_code
    for text in MARKUP:
        assert text not in outside_code
