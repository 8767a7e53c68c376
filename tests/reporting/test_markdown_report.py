# SPDX-License-Identifier: Apache-2.0
"""The Markdown report fits a comment, and a Markdown reader finds in it what the run says, texts unchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tttdebug.analysis.explanation import Explanation
from tttdebug.reporting.markdown_report import code, markdown_report, prose
from tttdebug.reporting.wording import clipped, printable
from tttdebug.tracking.manifest import Skipped

READER = MarkdownIt("commonmark").enable("table")


def report_of(run) -> str:
    return markdown_report(run, Explanation.load(run))


def texts(markdown: str) -> list[str]:
    """What is read, a string a paragraph, heading or cell, without its markup."""
    inline = [token for token in READER.parse(markdown) if token.type == "inline"]
    return ["".join(child.content for child in one.children if child.type in ("text", "code_inline")) for one in inline]


def table_rows(markdown: str) -> list[int]:
    """The number of cells of each row of each table."""
    rows: list[int] = []
    for token in READER.parse(markdown):
        if token.type == "tr_open":
            rows.append(0)
        elif token.type in ("td_open", "th_open"):
            rows[-1] += 1
    return rows


def test_the_verdict_comes_first_and_the_change_soon(broken):
    report = report_of(broken)
    assert report.startswith("### ❌ FAIL: L03.mlp is at fault: the output's channels are rolled by 3\n")
    assert "- **Change**: the output's channels are rolled by 3, <code>out = ttnn.roll(out, -3, -1)</code>" in report
    assert f"**Ledger**: {broken.manifest.expected} expected, {len(broken.records)} compared" in report
    assert report.count("\n| `L0") >= 10
    assert report.count("<details>") == report.count("</details>") > 1
    assert "tttdebug run --model llama --precision accuracy" in "".join(texts(report))


def test_a_sound_run_is_short(sound):
    report = report_of(sound)
    assert report.startswith("### ✅ PASS: The port follows its reference")
    assert "fail" not in report


def test_an_unfinished_run_is_no_pass(unfinished):
    assert report_of(unfinished).startswith("### ⚠️ INCOMPLETE")


def test_texts_of_a_run_are_read_as_they_are(hostile):
    report = report_of(hostile)
    read = texts(report)
    for record in hostile.records:
        assert clipped(record.boundary, 100) in read
    reasons = [entry.reason for entry in hostile.manifest.skipped]
    for text in [*hostile.manifest.notes, *(f"skipped: {reason}" for reason in reasons)]:
        assert " ".join(text.split()) in read
    kinds = {child.type for token in READER.parse(report) for child in token.children or ()}
    assert not kinds & {"link_open", "image"}
    assert not [line for line in report.splitlines() if "<script" in line or "<img" in line or "@someone" in line]


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=4))
def test_any_text_in_a_table_is_one_cell_and_reads_the_same(names):
    rows = "".join(f"| {code(name)} | {prose(name) or '–'} |\n" for name in names)
    markdown = f"| a | b |\n|---|---|\n{rows}"
    assert set(table_rows(markdown)) == {2}
    read = texts(markdown)[2:]
    for place, name in enumerate(names):
        shown = clipped(printable(name), 100) or "–"
        assert read[2 * place : 2 * place + 2] == [shown, shown]


@pytest.mark.parametrize("letter", ["x", "|", "\U0001f600"])
def test_no_run_makes_it_too_long_for_a_comment(broken, letter):
    long = letter * 3000
    records = [
        replace(record, boundary=f"L{place:03d}.{long}", verdict="diverged", note=long)
        for place, record in enumerate(broken.records * 20)
    ]
    skipped = tuple(Skipped(long, "prefill", 0, 0, f"{place} {long}") for place in range(300))
    run = replace(broken, records=records, manifest=replace(broken.manifest, skipped=skipped, notes=(long,) * 200))
    finding = Explanation.load(broken)[0]
    found = replace(finding, says=long, where=(long,) * 50)
    report = markdown_report(run, Explanation((found,) * 40, (long,) * 50, run))
    assert len(report.encode()) <= 60_000
    assert "More does not fit into a comment" in report
    assert "**Ledger**: " in report
    assert report.startswith("### ❌ FAIL")
    assert report.count("<details>") == report.count("</details>")
